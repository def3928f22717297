package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// GiveTo makes a user of the host the owner of a v2 cgroup, and of those of its files
// with which its owner may make cgroups below and move processes between them, but
// not change its own limits (runtime-spec, "Cgroup ownership"). On v1 it does nothing.
func (m *Manager) GiveTo(uid int) error {
	drv := m.drv
	if s, ok := drv.(*scope); ok {
		drv = s.driver
	}
	u, ok := drv.(*unified)
	if !ok {
		return nil
	}
	if err := os.Chown(u.path, uid, -1); err != nil {
		return fmt.Errorf("give cgroup away: %w", err)
	}
	for _, name := range delegated() {
		err := os.Chown(filepath.Join(u.path, name), uid, -1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // pressure files, say, may be switched off
			return fmt.Errorf("give cgroup away: %w", err)
		}
	}
	return nil
}

// delegated are the files that the kernel names for that; Linux 4.15 began to.
func delegated() (names []string) {
	s, err := readFile("/sys/kernel/cgroup", "delegate")
	if err != nil {
		return []string{"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
	}
	for name := range strings.FieldsSeq(s) {
		if !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}
