package spec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/host"
	"gantry/daemon/spec"
)

func features() host.Features {
	return host.Features{
		MemoryLimit: true, SwapLimit: true, MemoryReservation: true, MemorySwappiness: true, OomKillDisable: true,
		PidsLimit: true, CPUShares: true, CPUCfs: true, Cpuset: true, CPUs: "0-3", Mems: "0", NumCPU: 4,
		BlkioWeight: true, BlkioWeightDevice: true, BlkioReadBps: true, BlkioWriteBps: true, BlkioReadIOps: true, BlkioWriteIOps: true,
		CgroupNamespaces: true, Seccomp: true, IPv4Forwarding: true, PingGroupRange: true, UnprivilegedPortStart: true,
		Caps:      append(spec.DefaultCaps(), "CAP_SYS_ADMIN"),
		KnownCaps: append(spec.DefaultCaps(), "CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"),
	}
}

// input is a plain container; each row of a table changes one thing.
func input() spec.Input {
	f := features()
	h := &containertypes.HostConfig{}
	spec.NormalNetwork(h, nil)
	spec.Adapt(h, spec.Defaults{}, f)
	return spec.Input{
		Config: &containertypes.Config{Hostname: "h0"}, HostConfig: h, Path: "/app", Args: []string{"-x"},
		CgroupsPath: "/g/1", Host: f, Namespaces: spec.Namespaces{Net: spec.Namespace{Path: "/netns/1"}},
	}
}

// show renders a part of the specification for comparison.
func show(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func mountAt(s *specs.Spec, dst string) string {
	for _, m := range s.Mounts {
		if m.Destination == dst {
			return m.Type + " " + m.Source + " " + strings.Join(m.Options, ",")
		}
	}
	return ""
}

func namespaceOf(s *specs.Spec, t specs.LinuxNamespaceType) string {
	for _, n := range s.Linux.Namespaces {
		if n.Type == t {
			return "new" + n.Path
		}
	}
	return "host"
}

func ptr[T any](v T) *T { return &v }

// One row per field: what it becomes in config.json.
func TestBuild(t *testing.T) {
	type in = spec.Input
	tests := []struct {
		name   string
		change func(*in)
		get    func(*specs.Spec) any
		want   string
	}{
		{"args", nil, func(s *specs.Spec) any { return s.Process.Args }, `["/app","-x"]`},
		{"init", func(i *in) { i.Init = "/usr/bin/gantry-init" }, func(s *specs.Spec) any { return []any{s.Process.Args, mountAt(s, "/sbin/docker-init")} },
			`[["/sbin/docker-init","--","/app","-x"],"bind /usr/bin/gantry-init bind,ro"]`},
		{"init, shared pid namespace", func(i *in) { i.Init = "/i"; i.HostConfig.PidMode = "host" }, func(s *specs.Spec) any { return s.Process.Args }, `["/app","-x"]`},
		{"env", func(i *in) { i.Config.Env = []string{"A=1", "PATH=/x", "A=2"}; i.Home = "/home/u" }, func(s *specs.Spec) any { return s.Process.Env }, `["PATH=/x","HOSTNAME=h0","A=2","HOME=/home/u"]`},
		{"env removed", func(i *in) { i.Config.Env = []string{"HOSTNAME"} }, func(s *specs.Spec) any { return s.Process.Env }, fmt.Sprintf(`["PATH=%s"]`, spec.DefaultPath)},
		{"env, own HOME", func(i *in) { i.Config.Env = []string{"HOME=/x"}; i.Home = "/y" }, func(s *specs.Spec) any { return s.Process.Env[2:] }, `["HOME=/x"]`},
		{"tty", func(i *in) { i.Config.Tty = true; i.HostConfig.ConsoleSize = [2]uint{24, 80} },
			func(s *specs.Spec) any { return []any{s.Process.Terminal, s.Process.Env[2], s.Process.ConsoleSize} }, `[true,"TERM=xterm",{"height":24,"width":80}]`},
		{"cwd", nil, func(s *specs.Spec) any { return s.Process.Cwd }, `"/"`},
		{"working dir", func(i *in) { i.Config.WorkingDir = "/w" }, func(s *specs.Spec) any { return s.Process.Cwd }, `"/w"`},
		{"hostname", nil, func(s *specs.Spec) any { return s.Hostname }, `"h0"`},
		{"hostname, uts host", func(i *in) { i.HostConfig.UTSMode = "host" }, func(s *specs.Spec) any { return []any{s.Hostname, namespaceOf(s, specs.UTSNamespace)} }, `["","host"]`},
		{"domainname", func(i *in) { i.Config.Domainname = "d" }, func(s *specs.Spec) any { return s.Linux.Sysctl["kernel.domainname"] }, `"d"`},
		{"user", func(i *in) { i.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 7}} }, func(s *specs.Spec) any { return s.Process.User }, `{"uid":5,"gid":6,"additionalGids":[6,7]}`},
		{"sysctls of a private network", nil, func(s *specs.Spec) any { return s.Linux.Sysctl }, `{"net.ipv4.ip_unprivileged_port_start":"0","net.ipv4.ping_group_range":"0 2147483647"}`},
		{"sysctls of the user win", func(i *in) { i.HostConfig.Sysctls = map[string]string{"net.ipv4.ping_group_range": "1 0"} }, func(s *specs.Spec) any { return s.Linux.Sysctl["net.ipv4.ping_group_range"] }, `"1 0"`},
		{"no sysctls of the host's network", func(i *in) { i.HostConfig.NetworkMode = "host"; i.Namespaces.Net = spec.Namespace{Host: true} }, func(s *specs.Spec) any { return []any{len(s.Linux.Sysctl), namespaceOf(s, specs.NetworkNamespace)} }, `[0,"host"]`},
		{"namespaces", nil, func(s *specs.Spec) any {
			var all []string
			for _, n := range s.Linux.Namespaces {
				all = append(all, string(n.Type)+n.Path)
			}
			return all
		}, `["mount","network/netns/1","uts","pid","ipc"]`},
		{"pid container", func(i *in) { i.Namespaces.PID.Path = "/proc/7/ns/pid" }, func(s *specs.Spec) any { return namespaceOf(s, specs.PIDNamespace) }, `"new/proc/7/ns/pid"`},
		{"ipc host", func(i *in) { i.Namespaces.IPC.Host = true }, func(s *specs.Spec) any { return namespaceOf(s, specs.IPCNamespace) }, `"host"`},
		{"ipc none", func(i *in) { i.HostConfig.IpcMode = "none" }, func(s *specs.Spec) any { return mountAt(s, "/dev/shm") }, `""`},
		{"cgroupns private", func(i *in) { i.HostConfig.CgroupnsMode = "private" }, func(s *specs.Spec) any { return namespaceOf(s, specs.CgroupNamespace) }, `"new"`},
		{"cgroups path", nil, func(s *specs.Spec) any { return s.Linux.CgroupsPath }, `"/g/1"`},
		{"default mounts", nil, func(s *specs.Spec) any {
			var all []string
			for _, m := range s.Mounts {
				all = append(all, m.Destination)
			}
			return all
		}, `["/proc","/dev","/dev/pts","/sys","/sys/fs/cgroup","/dev/mqueue","/dev/shm"]`},
		{"shm size", func(i *in) { i.HostConfig.ShmSize = 1024 }, func(s *specs.Spec) any { return mountAt(s, "/dev/shm") }, `"tmpfs shm nosuid,noexec,nodev,mode=1777,size=1024"`},
		{"bind", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", Writable: true, Propagation: "rprivate"}}
		}, func(s *specs.Spec) any { return mountAt(s, "/d") }, `"bind /s rbind,rprivate"`},
		{"bind ro", func(i *in) { i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d"}} }, func(s *specs.Spec) any { return mountAt(s, "/d") }, `"bind /s rbind,rro"`},
		{"bind ro, of a runtime that can the top only", func(i *in) {
			i.TopReadOnly, i.Mounts = true, []spec.Mount{{Source: "/s", Destination: "/d"}}
		}, func(s *specs.Spec) any { return s.Mounts[len(s.Mounts)-1].Options }, `["rbind","ro"]`},
		{"bind ro, top only, not recursive", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", NonRecursive: true, ReadOnlyNonRecursive: true}}
		}, func(s *specs.Spec) any { return mountAt(s, "/d") }, `"bind /s bind,ro"`},
		{"bind shared", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", Writable: true, Propagation: "rshared", SourcePropagation: "shared"}}
		}, func(s *specs.Spec) any { return s.Linux.RootfsPropagation }, `"shared"`},
		{"bind slave", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", Writable: true, Propagation: "rslave", SourcePropagation: "shared"}}
		}, func(s *specs.Spec) any { return s.Linux.RootfsPropagation }, `"rslave"`},
		{"bind of the host's root, private", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/", Destination: "/d", Writable: true, Propagation: "rslave", AnySource: true}}
		}, func(s *specs.Spec) any { return []string{mountAt(s, "/d"), s.Linux.RootfsPropagation} }, `["bind / rbind,rslave",""]`},
		{"env of links, below the user's", func(i *in) {
			i.LinkEnv, i.Config.Env = []string{"DB_NAME=/web/db", "DB_PORT=1"}, []string{"DB_PORT=2"}
		}, func(s *specs.Spec) any { return s.Process.Env[2:] }, `["DB_NAME=/web/db","DB_PORT=2"]`},
		{"edits of devices, less what the user mounts", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/own", Destination: "/lib/b", Writable: true}}
			i.Edit = func(s *specs.Spec) error {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/lib/a", Type: "bind", Source: "/a"}, specs.Mount{Destination: "/lib/b", Type: "bind", Source: "/b"})
				s.Process.Env = append(s.Process.Env, "EDITED=1")
				s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "r"})
				return nil
			}
		}, func(s *specs.Spec) any {
			d := s.Linux.Resources.Devices
			return []any{mountAt(s, "/lib/a"), mountAt(s, "/lib/b"), s.Process.Env[2], d[0].Access, d[len(d)-1].Access}
		}, `["bind /a ","bind /own rbind","EDITED=1","rwm","r"]`},
		{"tmpfs", func(i *in) { i.Mounts = []spec.Mount{{Destination: "/t", Tmpfs: true, Data: "exec,size=1k"}} }, func(s *specs.Spec) any { return mountAt(s, "/t") }, `"tmpfs tmpfs nosuid,nodev,rprivate,exec,size=1k"`},
		{"sorted by depth", func(i *in) {
			i.Mounts = []spec.Mount{{Source: "/1", Destination: "/a/b/c", Writable: true}, {Source: "/2", Destination: "/a", Writable: true}, {Source: "/3", Destination: "/z/y", Writable: true}}
		}, func(s *specs.Spec) any {
			n := len(s.Mounts)
			return []string{s.Mounts[n-3].Destination, s.Mounts[n-2].Destination, s.Mounts[n-1].Destination}
		}, `["/a","/z/y","/a/b/c"]`},
		{"own /dev", func(i *in) { i.Mounts = []spec.Mount{{Source: "/dev", Destination: "/dev", Writable: true}} }, func(s *specs.Spec) any {
			return []string{mountAt(s, "/dev"), mountAt(s, "/dev/pts"), mountAt(s, "/dev/shm")}
		}, `["bind /dev rbind","",""]`},
		{"read-only root", func(i *in) { i.HostConfig.ReadonlyRootfs = true }, func(s *specs.Spec) any { return []any{s.Root.Readonly, mountAt(s, "/sys"), mountAt(s, "/proc")} }, `[true,"sysfs sysfs nosuid,noexec,nodev,ro","proc proc nosuid,noexec,nodev"]`},
		{"masked", nil, func(s *specs.Spec) any {
			return []any{len(s.Linux.MaskedPaths), s.Linux.MaskedPaths[0], s.Linux.ReadonlyPaths}
		}, `[12,"/proc/asound",["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]]`},
		{"masked nothing", func(i *in) { i.HostConfig.MaskedPaths, i.HostConfig.ReadonlyPaths = []string{}, []string{} }, func(s *specs.Spec) any { return []int{len(s.Linux.MaskedPaths), len(s.Linux.ReadonlyPaths)} }, `[0,0]`},
		{"caps", nil, func(s *specs.Spec) any {
			c := s.Process.Capabilities
			return []int{len(c.Bounding), len(c.Permitted), len(c.Effective), len(c.Inheritable), len(c.Ambient)}
		}, `[14,14,14,0,0]`},
		{"cap add and drop", func(i *in) {
			i.HostConfig.CapAdd, i.HostConfig.CapDrop = []string{"sys_admin"}, []string{"CAP_MKNOD", "net_raw"}
		}, func(s *specs.Spec) any {
			c := s.Process.Capabilities.Bounding
			return []bool{len(c) == 13, slices.Contains(c, "CAP_SYS_ADMIN"), slices.Contains(c, "CAP_MKNOD")}
		}, `[true,true,false]`},
		{"cap drop ALL", func(i *in) {
			i.HostConfig.CapAdd, i.HostConfig.CapDrop = []string{"CHOWN"}, []string{"ALL"}
		}, func(s *specs.Spec) any { return s.Process.Capabilities.Bounding }, `["CAP_CHOWN"]`},
		{"cap add ALL", func(i *in) {
			i.HostConfig.CapAdd, i.HostConfig.CapDrop = []string{"ALL"}, []string{"CHOWN"}
		}, func(s *specs.Spec) any { return []int{len(s.Process.Capabilities.Bounding)} }, `[14]`},
		{"seccomp default", nil, func(s *specs.Spec) any {
			return s.Linux.Seccomp != nil && s.Linux.Seccomp.DefaultAction == specs.ActErrno
		}, `true`},
		{"seccomp unconfined", func(i *in) { i.Security.Seccomp = "unconfined" }, func(s *specs.Spec) any { return s.Linux.Seccomp == nil }, `true`},
		{"seccomp of the daemon", func(i *in) { i.Profile = "unconfined" }, func(s *specs.Spec) any { return s.Linux.Seccomp == nil }, `true`},
		{"seccomp builtin over the daemon's", func(i *in) { i.Profile, i.Security.Seccomp = "unconfined", "builtin" }, func(s *specs.Spec) any { return s.Linux.Seccomp != nil }, `true`},
		{"seccomp JSON", func(i *in) { i.Security.Seccomp = `{"defaultAction":"SCMP_ACT_ALLOW"}` }, func(s *specs.Spec) any { return s.Linux.Seccomp.DefaultAction }, `"SCMP_ACT_ALLOW"`},
		{"no new privileges", func(i *in) { i.Security.NoNewPrivileges = true }, func(s *specs.Spec) any { return s.Process.NoNewPrivileges }, `true`},
		{"oom score", func(i *in) { i.HostConfig.OomScoreAdj = -5 }, func(s *specs.Spec) any { return s.Process.OOMScoreAdj }, `-5`},
		{"ulimits", func(i *in) {
			i.HostConfig.Ulimits = []*containertypes.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}
			i.Ulimits = []*containertypes.Ulimit{{Name: "nofile", Soft: 8, Hard: 9}, {Name: "core", Soft: -1, Hard: -1}}
		}, func(s *specs.Spec) any { return s.Process.Rlimits }, `[{"type":"RLIMIT_NOFILE","hard":2,"soft":1},{"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":18446744073709551615}]`},
		{"annotations", func(i *in) { i.HostConfig.Annotations = map[string]string{"a": "b"} }, func(s *specs.Spec) any { return s.Annotations }, `{"a":"b"}`},
		{"privileged", func(i *in) {
			i.HostConfig = &containertypes.HostConfig{Privileged: true}
			spec.NormalNetwork(i.HostConfig, nil)
			spec.Adapt(i.HostConfig, spec.Defaults{}, i.Host)
			i.AllHost = []specs.LinuxDevice{{Path: "/dev/x"}}
		}, func(s *specs.Spec) any {
			return []any{len(s.Process.Capabilities.Bounding), s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths,
				mountAt(s, "/sys"), mountAt(s, "/sys/fs/cgroup"), s.Linux.Resources.Devices, len(s.Linux.Devices)}
		}, `[15,null,null,null,"sysfs sysfs nosuid,noexec,nodev","cgroup cgroup nosuid,noexec,nodev",[{"allow":true,"access":"rwm"}],1]`},
		{"writable cgroups", func(i *in) { i.Security.WritableCgroups = ptr(true) }, func(s *specs.Spec) any { return []string{mountAt(s, "/sys"), mountAt(s, "/sys/fs/cgroup")} }, `["sysfs sysfs nosuid,noexec,nodev,ro","cgroup cgroup nosuid,noexec,nodev"]`},
		{"device", func(i *in) {
			i.Devices = []spec.Device{{LinuxDevice: specs.LinuxDevice{Path: "/dev/y", Type: "c", Major: 7, Minor: 8}, Access: "r"}}
			i.HostConfig.DeviceCgroupRules = []string{"b 8:* rw"}
		}, func(s *specs.Spec) any {
			d := s.Linux.Resources.Devices
			return []any{s.Linux.Devices[0].Path, d[0], d[len(d)-2], d[len(d)-1]}
		}, `["/dev/y",{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":7,"minor":8,"access":"r"},{"allow":true,"type":"b","major":8,"minor":-1,"access":"rw"}]`},
		{"memory", func(i *in) {
			r := &i.HostConfig.Resources
			r.Memory, r.MemorySwap, r.MemoryReservation, r.MemorySwappiness = 100, 200, 50, ptr(int64(7))
		}, func(s *specs.Spec) any { return s.Linux.Resources.Memory }, `{"limit":100,"reservation":50,"swap":200,"swappiness":7,"disableOOMKiller":false}`},
		{"memory, unlimited swap", func(i *in) { i.HostConfig.Memory, i.HostConfig.MemorySwap = 100, -1 }, func(s *specs.Spec) any { return s.Linux.Resources.Memory.Swap }, `null`},
		{"cpu", func(i *in) {
			r := &i.HostConfig.Resources
			r.CPUShares, r.CPUPeriod, r.CPUQuota, r.CpusetCpus, r.CpusetMems = 512, 1000, 2000, "0-1", "0"
		}, func(s *specs.Spec) any { return s.Linux.Resources.CPU }, `{"shares":512,"quota":2000,"period":1000,"cpus":"0-1","mems":"0"}`},
		{"nano cpus", func(i *in) { i.HostConfig.NanoCPUs = 1.5e9 }, func(s *specs.Spec) any { return s.Linux.Resources.CPU }, `{"quota":150000,"period":100000}`},
		{"pids", func(i *in) { i.HostConfig.PidsLimit = ptr(int64(9)) }, func(s *specs.Spec) any { return s.Linux.Resources.Pids }, `{"limit":9}`},
		{"pids unlimited", func(i *in) { i.HostConfig.PidsLimit = ptr(int64(0)) }, func(s *specs.Spec) any { return s.Linux.Resources.Pids }, `{"limit":-1}`},
		{"blkio", func(i *in) {
			r := &i.HostConfig.Resources
			r.BlkioWeight = 300
			r.BlkioWeightDevice = []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 10}}
			r.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 5}}
			i.BlockDevs = map[string][2]int64{"/dev/sda": {8, 0}}
		}, func(s *specs.Spec) any { return s.Linux.Resources.BlockIO }, `{"weight":300,"weightDevice":[{"major":8,"minor":0,"weight":10}],"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := input()
			if tt.change != nil {
				tt.change(&i)
			}
			s, err := spec.Build(i)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(tt.get(s)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		change     func(*spec.Input)
	}{
		{"not shared", "path /s is mounted on /m but it is not a shared mount", func(i *spec.Input) {
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", Propagation: "shared", SourceMount: "/m"}}
		}},
		{"not slave", "path /s is mounted on /m but it is not a shared or slave mount", func(i *spec.Input) {
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", Propagation: "slave", SourceMount: "/m"}}
		}},
		{"recursion that the runtime has not", `rro is not supported by runtime "old"`, func(i *spec.Input) {
			i.TopReadOnly, i.HostConfig.Runtime = true, "old"
			i.Mounts = []spec.Mount{{Source: "/s", Destination: "/d", ReadOnlyForceRecursive: true}}
		}},
		{"edit", "no such device", func(i *spec.Input) { i.Edit = func(*specs.Spec) error { return errors.New("no such device") } }},
		{"tmpfs option", `Invalid tmpfs option "bogus"`, func(i *spec.Input) { i.Mounts = []spec.Mount{{Destination: "/d", Tmpfs: true, Data: "bogus"}} }},
		{"profile", "Decoding seccomp profile failed: unexpected end of JSON input", func(i *spec.Input) { i.Security.Seccomp = "{" }},
		{"no seccomp", "seccomp is not enabled in your kernel, cannot run a custom seccomp profile", func(i *spec.Input) { i.Host.Seccomp = false; i.Security.Seccomp = "{}" }},
	}
	for _, tt := range tests {
		i := input()
		tt.change(&i)
		if _, err := spec.Build(i); err == nil || err.Error() != tt.text {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestExec(t *testing.T) {
	i := input()
	i.Config.Env, i.Config.WorkingDir = []string{"A=1", "B=2"}, "/w"
	i.HostConfig.OomScoreAdj = 3
	p := spec.Exec(spec.ExecInput{
		Config: i.Config, HostConfig: i.HostConfig, Host: i.Host, Args: []string{"ps"}, Env: []string{"A=3", "B"},
		Tty: true, Size: &[2]uint{1, 2}, Home: "/root", Privileged: true,
	})
	want := fmt.Sprintf(`["PATH=%s","HOSTNAME=h0","TERM=xterm","A=3","HOME=/root"]`, spec.DefaultPath)
	if got := show(p.Env); got != want {
		t.Errorf("env %s", got)
	}
	if p.Cwd != "/w" || !p.Terminal || p.ConsoleSize.Width != 2 || len(p.Capabilities.Bounding) != 15 || *p.OOMScoreAdj != 3 {
		t.Errorf("%s", show(p))
	}
}
