package runc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"gantry/runtime/cgroup"
)

// cgroup finds the container's cgroup through its init, once.
func (c *Container) cgroup() (*cgroup.Manager, error) {
	c.once.Do(func() { c.cg, c.err = cgroupOf(c.pid) })
	return c.cg, c.err
}

func cgroupOf(pid int) (*cgroup.Manager, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for line := range bytes.Lines(raw) {
		id, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for _, m := range mounts {
			if dir := below(m, id, controllers, path); dir != "" {
				for _, key := range strings.Split(controllers, ",") {
					paths[key] = dir
				}
				break
			}
		}
	}
	return cgroup.Load(paths)
}

// below returns the directory of a line of /proc/PID/cgroup if m is its hierarchy.
func below(m *mountinfo.Info, id, controllers, path string) string {
	unified := id == "0" && controllers == ""
	if unified != (m.FSType == "cgroup2") {
		return ""
	}
	first, _, _ := strings.Cut(controllers, ",")
	if !unified && !contains(m.VFSOptions, first) {
		return ""
	}
	rel, err := filepath.Rel(m.Root, path)
	if err != nil || rel == "." || strings.HasPrefix(rel, "..") {
		return ""
	}
	return filepath.Join(m.Mountpoint, rel)
}

func contains(options, key string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == key {
			return true
		}
	}
	return false
}
