package validate_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/validate"
)

// base is a small good container.
func base() *specs.Spec {
	return &specs.Spec{
		Version: "1.2.0",
		Process: &specs.Process{Args: []string{"sh"}, Cwd: "/", Env: []string{"A="}},
		Root:    &specs.Root{Path: "rootfs"},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: "pid"}, {Type: "mount"}, {Type: "uts"}, {Type: "ipc"}, {Type: "network", Path: "/run/netns/a"},
		}},
	}
}

func mounted(typ, dest, source string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Mounts = []specs.Mount{{Type: typ, Destination: dest, Source: source}} }
}

func ptr[T any](v T) *T { return &v }

func TestSpec(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(s *specs.Spec)
		want string // "" is good
	}{
		{"good", func(s *specs.Spec) {}, ""},
		{"version missing", func(s *specs.Spec) { s.Version = "" }, "ociVersion: missing"},
		{"version 1.3 of development", func(s *specs.Spec) { s.Version = "1.3.0+dev" }, ""},
		{"version 1.0 release candidate", func(s *specs.Spec) { s.Version = "1.0.2-dev" }, ""},
		{"version too new", func(s *specs.Spec) { s.Version = "1.4.0" }, `ociVersion: "1.4.0" is not supported, only 1.0 to 1.3`},
		{"version of another major", func(s *specs.Spec) { s.Version = "2.0.0" }, `ociVersion: "2.0.0" is not supported, only 1.0 to 1.3`},
		{"version of no form", func(s *specs.Spec) { s.Version = "1.x.0" }, `ociVersion: "1.x.0" is not a version`},
		{"no process", func(s *specs.Spec) { s.Process = nil }, "process: missing"},
		{"no args", func(s *specs.Spec) { s.Process.Args = nil }, "process.args: empty"},
		{"NUL in args", func(s *specs.Spec) { s.Process.Args = []string{"sh", "a\x00"} }, "process.args[1]: holds a NUL byte"},
		{"relative cwd", func(s *specs.Spec) { s.Process.Cwd = "tmp" }, `process.cwd: "tmp" is not absolute`},
		{"bind on procfs", mounted("bind", "/proc", "/srv"), `mounts[0].destination: "/srv" cannot be mounted because it is not of type proc`},
		{"tmpfs on procfs", mounted("tmpfs", "proc/", "tmpfs"), `mounts[0].destination: "tmpfs" cannot be mounted because it is not of type proc`},
		{"bind into procfs", mounted("bind", "/a/../proc/self/attr/exec", "/srv"), `mounts[0].destination: "/proc/self/attr/exec" cannot be mounted because it is inside /proc`},
		{"procfs by itself", mounted("proc", "/proc", "proc"), ""},
		{"the host's procfs", mounted("bind", "/proc", "/proc"), ""},
		{"figures of one's own", mounted("bind", "/proc/meminfo", "/srv"), ""},
		{"not procfs", mounted("bind", "/processes", "/srv"), ""},
		{"env of no form", func(s *specs.Spec) { s.Process.Env = []string{"A"} }, `process.env[0]: "A" is not NAME=VALUE`},
		{"no root", func(s *specs.Spec) { s.Root = nil }, "root: missing"},
		{"empty root", func(s *specs.Spec) { s.Root.Path = "" }, "root.path: empty"},
		{"two problems", func(s *specs.Spec) { s.Root, s.Process.Args = nil, nil }, "process.args: empty; root: missing"},
		{"umask", func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o1777)) }, "process.user.umask: 01777 is more than 0777"},
		{"capability unknown here", func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_FROM_THE_FUTURE"}}
		}, ""},
		{"capability of no form", func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Permitted: []string{"CAP_KILL", "kill"}}
		}, ""},
		{"rlimit unknown", func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, `process.rlimits[0].type: unknown rlimit "RLIMIT_X"`},
		{"rlimit twice", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}}
		}, `process.rlimits[1].type: "RLIMIT_CPU" is given twice`},
		{"rlimit soft above hard", func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU", Soft: 2, Hard: 1}} },
			"process.rlimits[0]: soft limit 2 is above the hard limit 1"},
		{"oom score", func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(1001) }, "process.oomScoreAdj: 1001 is not within -1000 and 1000"},
		{"scheduler", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_FAST"} }, `process.scheduler.policy: unknown policy "SCHED_FAST"`},
		{"deadline without its policy", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Runtime: 1} },
			"process.scheduler: runtime, deadline and period only with SCHED_DEADLINE"},
		{"realtime priority", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedRR, Priority: 10} }, ""},
		{"io priority", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_BE", Priority: 8}
		},
			"process.ioPriority.priority: 8 is not within 0 and 7"},
		{"affinity", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-3", Final: "all"} },
			`process.execCPUAffinity.final: "all" is not a list of numbers up to 1023`},
		{"mount without destination", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Type: "proc"}} }, "mounts[0].destination: empty"},
		{"mount with relative destination", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "srv"}} }, ""},
		{"mount with half a mapping", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}}
		}, "mounts[0]: uidMappings and gidMappings go together"},
		{"hook path", func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} }, `hooks.poststop[0].path: "x" is not absolute`},
		{"hook timeout", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x", Timeout: ptr(0)}}}
		}, "hooks.startContainer[0].timeout: 0 is not above 0"},
		{"annotation", func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }, "annotations: empty key"},
		{"namespace unknown", func(s *specs.Spec) { s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "nett"}} },
			`linux.namespaces[0].type: unknown namespace "nett"`},
		{"namespace twice", func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "pid"}, {Type: "pid", Path: "/x"}}
		},
			`linux.namespaces[1].type: "pid" is given twice`},
		{"namespace path", func(s *specs.Spec) { s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "pid", Path: "x"}} },
			`linux.namespaces[0].path: "x" is not absolute`},
		{"hostname of the host", func(s *specs.Spec) { s.Hostname, s.Linux = "a", nil }, "hostname: needs a uts namespace"},
		{"hostname too long", func(s *specs.Spec) { s.Hostname = strings.Repeat("a", 65) }, "hostname: longer than 64 bytes"},
		{"mapping without user namespace", func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
			"linux.uidMappings: id mappings need a user namespace"},
		{"user namespace without mapping", func(s *specs.Spec) { s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "user"}} },
			"linux.uidMappings: a new user namespace needs uid and gid mappings"},
		{"joined user namespace has its own", func(s *specs.Spec) { s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "user", Path: "/u"}} }, ""},
		{"mapping overlap", func(s *specs.Spec) {
			one := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}, {ContainerID: 10, HostID: 1009, Size: 1}}
			s.Linux.Namespaces, s.Linux.UIDMappings, s.Linux.GIDMappings = []specs.LinuxNamespace{{Type: "user"}}, one, one[:1]
		}, "linux.uidMappings[1]: overlaps another mapping"},
		{"mapping beyond the end", func(s *specs.Spec) {
			one := []specs.LinuxIDMapping{{ContainerID: 1, Size: 1<<32 - 1}}
			s.Linux.Namespaces, s.Linux.UIDMappings, s.Linux.GIDMappings = []specs.LinuxNamespace{{Type: "user"}}, []specs.LinuxIDMapping{{Size: 1<<32 - 1}}, one
		}, "linux.gidMappings[0]: size 4294967295 is not possible"},
		{"masked path", func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/proc/kcore", "x"} }, `linux.maskedPaths[1]: "x" is not absolute`},
		{"readonly path of the host", func(s *specs.Spec) { s.Linux = &specs.Linux{ReadonlyPaths: []string{"/x"}} }, "linux.readonlyPaths: needs a mount namespace"},
		{"propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "rslave" }, ""},
		{"propagation unknown", func(s *specs.Spec) { s.Linux.RootfsPropagation = "master" }, `linux.rootfsPropagation: unknown propagation "master"`},
		{"device", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "d"}} }, `linux.devices[0].type: unknown type "d"`},
		{"pipe needs no number", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "p", Major: -1}} }, ""},
		{"device number", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: -1}} }, "linux.devices[0]: device number -1:0 is not possible"},
		{"device access", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwx"}}}
		}, `linux.resources.devices[0].access: "rwx" is not of r, w and m`},
		{"blkio weight", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(9))}}
		}, "linux.resources.blockIO.weight: 9 is not within 10 and 1000"},
		{"unified key leaves the cgroup", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Unified: map[string]string{"../memory.max": "1"}}
		}, `linux.resources.unified: "../memory.max" is no file of a cgroup`},
		{"time offset", func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} }, "linux.timeOffsets: needs a new time namespace"},
		{"clock", func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "time"}}
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}}
		}, `linux.timeOffsets: unknown clock "realtime"`},
		{"net device", func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {Name: "a/b"}} },
			`linux.netDevices.eth0.name: "a/b" is no interface name`},
		{"personality", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }, `linux.personality.domain: unknown domain "BSD"`},
		{"memory policy", func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "MPOL_X"} }, `linux.memoryPolicy.mode: unknown mode "MPOL_X"`},
		{"memory policy without nodes", func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind} },
			`linux.memoryPolicy.nodes: "MPOL_BIND" needs at least one`},
		{"memory policy with nodes", func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Nodes: "0"}
		}, `linux.memoryPolicy.nodes: none with MPOL_LOCAL`},
		{"seccomp action", func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "DENY"} }, `linux.seccomp.defaultAction: unknown action "DENY"`},
		{"seccomp default asks", func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActNotify} },
			"linux.seccomp.defaultAction: can't be SCMP_ACT_NOTIFY, nobody could answer"},
		{"seccomp argument", func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{
				Names: []string{"open"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: "<"}}}}}
		}, `linux.seccomp.syscalls[0].args[0].index: 6 is not within 0 and 5; linux.seccomp.syscalls[0].args[0].op: unknown operator "<"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := base()
			c.edit(s)
			check(t, validate.Spec(s), c.want)
		})
	}
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
		if !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("class of %v", err)
		}
	}
	if got != want {
		t.Errorf("error %q\nwant  %q", got, want)
	}
}

func TestSysctl(t *testing.T) {
	for _, c := range []struct{ key, want string }{
		{"net.ipv4.ip_forward", ""},
		{"net/ipv4/ip_forward", ""},
		{"net.ipv4.conf.eth0/1.forwarding", ""},
		{"kernel.shmmax", ""},
		{"fs.mqueue.msg_max", ""},
		{"kernel.domainname", ""},
		{"kernel.hostname", "linux.sysctl.kernel.hostname: differs from hostname"},
		{"user.max_user_namespaces", "linux.sysctl.user.max_user_namespaces: needs a namespace of its own: user"},
		{"kernel.panic", "linux.sysctl.kernel.panic: is not of a namespace, it would change the host"},
		{"vm.swappiness", "linux.sysctl.vm.swappiness: is not of a namespace, it would change the host"},
		{"net", "linux.sysctl.net: is not of a namespace, it would change the host"},
		{"net/../kernel/panic", `linux.sysctl: "net/../kernel/panic" is no sysctl`},
		{"net.//.kernel.panic", `linux.sysctl: "net.//.kernel.panic" is no sysctl`},
		{"net..x", `linux.sysctl: "net..x" is no sysctl`},
		{"", `linux.sysctl: "" is no sysctl`},
	} {
		s := base()
		s.Hostname = "h"
		s.Linux.Sysctl = map[string]string{c.key: "1"}
		check(t, validate.Spec(s), c.want)
	}
	s := base()
	s.Linux.Namespaces = nil
	s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "1", "kernel.sem": "1"}
	check(t, validate.Spec(s), "linux.sysctl.kernel.sem: needs a namespace of its own: ipc; linux.sysctl.net.core.somaxconn: needs a namespace of its own: network")
}

func TestID(t *testing.T) {
	for id, good := range map[string]bool{
		"a": true, "A_b+c-d.9": true, "..a": true, strings.Repeat("a", 1024): true, "-x": true,
		"": false, ".": false, "..": false, "a/b": false, "a b": false, "ä": false, "a\x00": false,
		strings.Repeat("a", 1025): false, "a:b": false,
	} {
		if err := validate.ID(id); (err == nil) != good || err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestErrorIsBounded(t *testing.T) {
	s := base()
	for range 1000 {
		s.Mounts = append(s.Mounts, specs.Mount{})
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, strings.Repeat("x", 1<<12))
	}
	err := validate.Spec(s)
	if err == nil || len(err.Error()) > 4<<10 || !strings.HasSuffix(err.Error(), "; and 1992 more") {
		t.Errorf("error %.200v", err)
	}
}

func TestNil(t *testing.T) {
	check(t, validate.Process(nil), "no process: invalid argument")
	check(t, validate.Spec(nil), "no specification: invalid argument")
	check(t, validate.Resources(nil), "")
	check(t, validate.Spec(&specs.Spec{}), "ociVersion: missing; process: missing; root: missing")
}

func FuzzSpec(f *testing.F) {
	b, _ := json.Marshal(base())
	f.Add(b)
	f.Add([]byte(`{"ociVersion":"1","linux":{"sysctl":{"net.":""},"seccomp":{}},"hooks":{},"process":{"ioPriority":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s specs.Spec
		if json.Unmarshal(b, &s) != nil {
			return
		}
		if err := validate.Spec(&s); err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("class of %v", err)
		}
		if s.Linux != nil {
			validate.Resources(s.Linux.Resources)
		}
	})
}
