package plan_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/plan"
	"gantry/runtime/program"
	"gantry/runtime/rootfs"
	"gantry/runtime/security"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func spec() *specs.Spec {
	return &specs.Spec{
		Version: "1.2.0",
		Process: &specs.Process{Args: []string{"sh", "-c", "true"}, Cwd: "/", Env: []string{"PATH=/bin:/sbin", "HOME=/root"}},
		Root:    &specs.Root{Path: "/bundle/rootfs"},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	}
}

func add(s *specs.Spec, types ...specs.LinuxNamespaceType) {
	for _, t := range types {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t})
	}
}

func m(dest, typ, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: typ, Source: source, Options: options}
}

var hybrid = plan.CgroupMounts{Hierarchies: []plan.Hierarchy{
	{Name: "systemd", Options: []string{"none", "name=systemd"}, Path: "/sys/fs/cgroup/systemd/c"},
	{Name: "cpu,cpuacct", Options: []string{"cpu", "cpuacct"}, Path: "/sys/fs/cgroup/cpu,cpuacct/c"},
}}

// TestGolden pins the program of each feature; rewrite with -update and read
// the difference.
func TestGolden(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	for name, change := range map[string]func(s *specs.Spec, o *plan.Options){
		"minimal": func(s *specs.Spec, o *plan.Options) {},
		"namespaces": func(s *specs.Spec, o *plan.Options) {
			add(s, specs.NetworkNamespace, specs.UTSNamespace, specs.IPCNamespace, specs.CgroupNamespace, specs.TimeNamespace)
			s.Hostname, s.Domainname = "box", "lan"
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.eth0/1.forwarding": "1"}
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 5, Nanosecs: 7}}
			o.Tasks = 2
		},
		"join": func(s *specs.Spec, o *plan.Options) {
			s.Linux.Namespaces[1].Path = "/proc/1/ns/pid"
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/run/netns/x"})
		},
		"user-namespace": func(s *specs.Spec, o *plan.Options) {
			add(s, specs.UserNamespace)
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
			s.Mounts = []specs.Mount{m("/data", "bind", "/src", "rbind", "ro")}
		},
		"join-user-namespace": func(s *specs.Spec, o *plan.Options) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/9/ns/user"})
			add(s, specs.IPCNamespace)
		},
		"mounts": func(s *specs.Spec, o *plan.Options) {
			mapped := m("/mapped", "bind", "/srv", "rbind", "ridmap")
			mapped.UIDMappings, mapped.GIDMappings = ids, ids
			s.Mounts = []specs.Mount{
				m("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
				m("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k", "ro"),
				m("/sys", "sysfs", "sysfs", "ro"), m("/data", "bind", "/src", "rbind", "rro", "rslave"), mapped,
			}
			s.Root.Readonly = true
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
		},
		"shared-propagation": func(s *specs.Spec, o *plan.Options) {
			s.Linux.RootfsPropagation = "rshared"
			s.Mounts = []specs.Mount{m("/data", "bind", "/src", "rbind", "rshared")}
		},
		"cgroup-v1": func(s *specs.Spec, o *plan.Options) {
			add(s, specs.CgroupNamespace)
			s.Mounts = []specs.Mount{m("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid")}
			o.Cgroups = hybrid
		},
		"cgroup-v1-host": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/sys/fs/cgroup", "cgroup", "cgroup", "ro")}
			o.Cgroups = hybrid
		},
		"cgroup-v2": func(s *specs.Spec, o *plan.Options) {
			add(s, specs.CgroupNamespace)
			s.Mounts = []specs.Mount{m("/sys/fs/cgroup", "cgroup", "cgroup", "ro")}
			o.Cgroups, o.Cgroup = plan.CgroupMounts{Unified: true, Path: "/sys/fs/cgroup/c"}, true
		},
		"cgroup-v2-host": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/sys/fs/cgroup", "cgroup", "cgroup", "ro")}
			o.Cgroups, o.Cgroup = plan.CgroupMounts{Unified: true, Path: "/sys/fs/cgroup/c"}, true
		},
		"overlay": func(s *specs.Spec, o *plan.Options) {
			o.Rootfs = []rootfs.Mount{{Type: "overlay", Source: "overlay", Options: []string{"index=off", "workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"}}}
		},
		"overlay-long": func(s *specs.Spec, o *plan.Options) {
			long := strings.Repeat("l", 200)
			o.Rootfs = []rootfs.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/s/" + long + "/2:/s/" + long + "/1", "upperdir=/u", "workdir=/w"}}}
			o.Host.LowerPlus = true
		},
		"overlay-old-kernel": func(s *specs.Spec, o *plan.Options) {
			long := strings.Repeat("l", 200)
			o.Rootfs = []rootfs.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/s/" + long + "/2:/s/" + long + "/1", "upperdir=/u", "workdir=/w"}}}
			o.Host.MountPoint = "/bundle/rootfs"
		},
		"terminal": func(s *specs.Spec, o *plan.Options) {
			s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 24, Width: 80}
		},
		"process": func(s *specs.Spec, o *plan.Options) {
			mask, adj := uint32(0o27), -5
			s.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}, Umask: &mask}
			s.Process.Cwd, s.Process.Env = "/work", []string{"PATH=/bin"}
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 3}
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 4}
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0-1", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
			o.Process.OOMScoreAdj, o.Keyring, o.Extra = &adj, true, 2
			o.Process.Rlimits = []security.Rlimit{{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: 10, Hard: 20}}
			o.Process.Caps = security.CapSets{Effective: 1, Permitted: 1, Bounding: 3, Inheritable: 1, Ambient: 1}
		},
		"seccomp": func(s *specs.Spec, o *plan.Options) { o.Process.Seccomp = []unix.SockFilter{{Code: 6, K: 0x7fff0000}} },
		"seccomp-no-new-privs": func(s *specs.Spec, o *plan.Options) {
			s.Process.NoNewPrivileges = true
			o.Process.Seccomp = []unix.SockFilter{{Code: 6, K: 0x7fff0000}}
		},
		"seccomp-notify": func(s *specs.Spec, o *plan.Options) {
			o.Process.Seccomp, o.Process.Notify = []unix.SockFilter{{Code: 6, K: 0x7fff0000}}, []unix.SockFilter{{Code: 6, K: 0x7fff0000}}
			o.Process.NotifyFlag = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
		},
		"hooks-no-pivot": func(s *specs.Spec, o *plan.Options) {
			o.Hooks, o.NoPivot, o.Host.MountPoint = true, true, "/bundle/rootfs"
		},
		"label": func(s *specs.Spec, o *plan.Options) {
			o.Process.Attrs = []security.Attr{{Path: "attr/apparmor/exec", Value: "exec profile"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec()
			o := plan.Options{ID: "c", RootPath: s.Root.Path, Start: true, Process: plan.Process{HaveCaps: 0xff}}
			change(s, &o)
			p, err := plan.Create(s, o)
			golden(t, name, p, err)
		})
	}
}

func TestGoldenExec(t *testing.T) {
	s := spec()
	add(s, specs.NetworkNamespace, specs.UserNamespace)
	p, err := plan.Exec(s, &specs.Process{Args: []string{"/bin/ls"}, Cwd: "/", Terminal: true},
		plan.Options{Tasks: 1, Process: plan.Process{HaveCaps: 0xff}})
	golden(t, "exec", p, err)
}

func TestGoldenHook(t *testing.T) {
	p, err := plan.Exec(spec(), &specs.Process{Args: []string{"hook", "-x"}, Cwd: "/", Env: []string{"A=1"}, User: specs.User{UID: 7}},
		plan.Options{Tasks: 1, Exe: "/bin/hook", Process: plan.Process{Seccomp: []unix.SockFilter{{Code: 6, K: 0x7fff0000}}}})
	golden(t, "hook", p, err)
}

func TestGoldenExecAffinity(t *testing.T) {
	p, err := plan.Exec(spec(), &specs.Process{
		Args: []string{"/bin/ls"}, Cwd: "/", Env: []string{"A=1", "HOME=/a", "A=2"},
		ExecCPUAffinity: &specs.CPUAffinity{Initial: "1", Final: "0-1"},
		Scheduler:       &specs.Scheduler{Policy: specs.SchedDeadline, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}, Runtime: 1, Deadline: 2, Period: 3},
	}, plan.Options{Tasks: 1})
	golden(t, "exec-affinity", p, err)
}

func TestGoldenDetachedRoot(t *testing.T) {
	p, err := plan.DetachedRoot(plan.Options{RootPath: "/bundle/rootfs"})
	golden(t, "detached-root", p, err)
}

func golden(t *testing.T, name string, p *program.Program, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".txt")
	got := p.String()
	if *update {
		os.MkdirAll("testdata", 0o755)
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the plan differs from %s; got\n%s", file, got)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*specs.Spec)
		want   string
	}{
		{"no mount namespace", func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, "mount namespace of its own"},
		{"namespace twice", func(s *specs.Spec) { add(s, specs.PIDNamespace) }, "listed twice"},
		{"unknown namespace", func(s *specs.Spec) { add(s, "mind") }, "unknown namespace"},
		{"mount without a type", func(s *specs.Spec) { s.Mounts = []specs.Mount{m("/x", "", "y")} }, "no type"},
		{"long option", func(s *specs.Spec) { s.Mounts = []specs.Mount{m("/x", "tmpfs", "y", "size="+strings.Repeat("1", 300))} }, "longer than 255"},
		{"device type", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "q"}} }, "unknown device type"},
		{"memory policy", func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "MPOL_X"} }, "invalid memory policy mode"},
		{"no args", func(s *specs.Spec) { s.Process.Args = nil }, "no args"},
		{"scheduler", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_NONE"} }, "scheduler policy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec()
			c.change(s)
			if _, err := plan.Create(s, plan.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}
