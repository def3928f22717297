package attack_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// withUserNamespace maps the container's ids high up.
func withUserNamespace(s *specs.Spec) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
}

// writeCgroups tries to make cgroups and to write files in all that is to be seen of them.
const writeCgroups = `n=0; for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do test -e $d/cgroup.procs || continue; n=$((n+1))
	mkdir $d/evil 2>/dev/null && echo made $d && rmdir $d/evil; (echo 0 >$d/cgroup.procs) 2>/dev/null && echo wrote $d; done; echo looked at $n`

func withoutCgroupNamespace(s *specs.Spec) {
	var list []specs.LinuxNamespace
	for _, n := range s.Linux.Namespaces {
		if n.Type != specs.CgroupNamespace {
			list = append(list, n)
		}
	}
	s.Linux.Namespaces = list
}

// TestCgroupsReadOnly is CVE-2023-25809: without a cgroup namespace a container in a user
// namespace got the host's cgroups by a bind that lacked the read-only flag it was to
// have. The ids are mapped one to one here, so that nothing but the flag protects.
func TestCgroupsReadOnly(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"user namespace, no cgroup namespace": func(s *specs.Spec) { withUserNamespace(s); withoutCgroupNamespace(s) },
		"both namespaces":                     withUserNamespace,
		"no cgroup namespace":                 withoutCgroupNamespace,
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			b := g.box("box", "sh", "-c", writeCgroups)
			b.spec.Mounts = append(b.spec.Mounts, mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"))
			change(b.spec)
			if out := b.mustRun(); strings.Contains(out, "made") || strings.Contains(out, "wrote") || strings.Contains(out, "looked at 0") {
				t.Errorf("%s", out)
			}
		})
	}
}

// TestCgroupsWritable: where the flag is not asked for, the same container writes.
func TestCgroupsWritable(t *testing.T) {
	g := newGround(t)
	b := g.box("box", "sh", "-c", writeCgroups)
	b.spec.Mounts = append(b.spec.Mounts, mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw", "nosuid", "noexec", "nodev"))
	withoutCgroupNamespace(b.spec)
	if out := b.mustRun(); !strings.Contains(out, "made") && !strings.Contains(out, "wrote") {
		t.Errorf("%s", out)
	}
}
