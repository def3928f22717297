package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// DirOf is the directory in the unified hierarchy where process pid is, this one
// or one below. A container may hand controllers down, as nested engines and
// init systems do; its own directory then takes no process, and one that is
// to join goes where the container's init is. Class: NotFound, also for a
// process that is elsewhere.
func (m *Manager) DirOf(pid int) (string, error) {
	own, ok := m.Paths()[""]
	if !ok {
		return "", fmt.Errorf("no unified hierarchy: %w", errdefs.ErrNotFound)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", notFound(err)
	}
	at, err := parseSelf(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	dir, ok := m.host.shown("", at[""])
	if !ok || dir != own && !strings.HasPrefix(dir, own+"/") {
		return "", fmt.Errorf("process %d is in cgroup %q, not below %s: %w", pid, at[""], own, errdefs.ErrNotFound)
	}
	return dir, nil
}

// shown is where the mount of the hierarchy with that key shows a cgroup.
func (h *host) shown(key, cgroup string) (string, bool) {
	for _, m := range h.mounts {
		if m.keys[0] != key {
			continue
		}
		rel, err := filepath.Rel(m.root, cgroup)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return "", false
		}
		return filepath.Join(m.point, rel), true
	}
	return "", false
}
