package plan_test

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/bundle"
	"gantry/runtime/plan"
	"gantry/runtime/program"
	"gantry/runtime/rootfs"
	"gantry/runtime/security"
	"gantry/runtime/validate"
)

// bits spreads a number over the options of a plan.
func bits(n uint32) plan.Options {
	bit := func(i int) bool { return n>>i&1 != 0 }
	o := plan.Options{ID: "c", RootPath: "/bundle/rootfs", Extra: int(n >> 28 & 3), Tasks: int(n >> 26 & 3),
		Cgroup: bit(0), Start: bit(1), Hooks: bit(2), NoPivot: bit(3), Keyring: bit(4), AskTTY: bit(5),
		Creator: plan.Creator{Unprivileged: bit(6), InUserNS: bit(7), Dumpable: bit(8)},
		Host:    rootfs.Options{LowerPlus: bit(9)}, Cgroups: hybrid}
	if bit(10) {
		o.Cgroups = plan.CgroupMounts{Unified: true, Path: "/sys/fs/cgroup/c"}
	}
	if bit(11) {
		o.Rootfs = []rootfs.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b", "upperdir=/u", "workdir=/w"}}}
	}
	if bit(12) {
		o.Process.Attrs = []security.Attr{{Path: "attr/exec", Value: "x"}}
	}
	if bit(13) {
		o.Process.Seccomp = []unix.SockFilter{{Code: 6}}
	}
	if bit(14) {
		adj := -5
		o.Process.OOMScoreAdj = &adj
	}
	if bit(15) {
		o.Host.MountPoint = "/bundle/rootfs"
	}
	return o
}

// FuzzPlan: whatever a spec says that passes validation, it gives an error or programs
// that are well-formed, for create and exec.
func FuzzPlan(f *testing.F) {
	seed := func(n uint32, change func(s *specs.Spec)) {
		s := spec()
		change(s)
		raw, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, n)
	}
	add := func(s *specs.Spec, types ...specs.LinuxNamespaceType) {
		for _, t := range types {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t})
		}
	}
	ids := []specs.LinuxIDMapping{{HostID: 1000, Size: 10}}
	seed(0, func(*specs.Spec) {})
	seed(^uint32(0), func(*specs.Spec) {})
	seed(0b0111_1011, func(s *specs.Spec) {
		add(s, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace)
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		s.Process.Terminal = true
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 1}}
	})
	seed(1<<12|1<<13|1<<1, func(s *specs.Spec) {
		s.Linux.Namespaces[1].Path = "/proc/1/ns/pid"
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/keys", "/x"}, []string{"/proc/sys"}
		s.Process.Cwd = "/a/../b"
		add(s, specs.NetworkNamespace)
	})
	seed(1<<15|1<<2|1<<26, func(s *specs.Spec) {
		s.Mounts = []specs.Mount{m("/proc", "proc", "proc"), m("/d", "bind", "/src", "rbind", "ro", "idmap"), m("/t", "tmpfs", "", "tmpcopyup", "ro", "size=1m"),
			m("/sys/fs/cgroup", "cgroup", "cgroup", "ro"), m("/r", "", "", "remount", "bind", "ro"), m("/dev", "tmpfs", "tmpfs", "rro", "rshared")}
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x/y", Type: "b", Major: 7}, {Path: "/dev/fifo", Type: "p"}}
		s.Linux.RootfsPropagation, s.Root.Readonly, s.Hostname = "rshared", true, "h"
	})
	f.Fuzz(func(t *testing.T, raw []byte, n uint32) {
		s, err := bundle.Parse(raw)
		if err != nil || validate.Spec(s) != nil {
			return
		}
		if s.Linux == nil {
			s.Linux = new(specs.Linux)
		}
		wellFormed(t, s, bits(n))
	})
}

// wellFormed compiles all programs of a container.
func wellFormed(t *testing.T, s *specs.Spec, o plan.Options) {
	t.Helper()
	for name, compile := range map[string]func() (*program.Program, error){
		"create": func() (*program.Program, error) { return plan.Create(s, o) },
		"exec":   func() (*program.Program, error) { return plan.Exec(s, s.Process, o) },
		"root":   func() (*program.Program, error) { return plan.DetachedRoot(o) },
	} {
		p, err := compile()
		if err != nil {
			continue
		}
		if err := p.Verify(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, p)
		}
	}
}
