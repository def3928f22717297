package plan_test

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/plan"
)

func TestGoldenRevive(t *testing.T) {
	p, err := plan.Revive(plan.Options{RootPath: "/bundle/rootfs", Tasks: 1, Cgroup: true, Extra: 1}, plan.Reviver{
		Path: "/usr/sbin/criu", Args: []string{"criu", "swrk", "3"}, Env: []string{"PATH=/bin"},
		Place: "/run/grun/c/criu-root", Dirs: []string{"/images", "/work"},
	})
	golden(t, "revive", p, err)
}

// TestGoldenMountPoints: no maps of a mount, no mount of a cgroup, whose place alone
// matters.
func TestGoldenMountPoints(t *testing.T) {
	s := spec()
	mapped := m("/mapped", "bind", "/srv", "rbind")
	mapped.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
	s.Mounts = []specs.Mount{m("/proc", "proc", "proc"), m("/sys/fs/cgroup", "cgroup", "cgroup"), mapped, m("/etc/file", "bind", "/file", "bind")}
	s.Process.Terminal = true
	p, err := plan.MountPoints(s, plan.Options{RootPath: s.Root.Path})
	golden(t, "mount-points", p, err)
}

func TestGoldenNull(t *testing.T) {
	s := spec()
	p, err := plan.Create(s, plan.Options{ID: "c", RootPath: s.Root.Path, Start: true, Null: [3]bool{true, false, true}})
	golden(t, "null", p, err)
}
