package spec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/daemon/host"
	"gantry/daemon/spec"
)

func machine(f host.Features) spec.Machine {
	return spec.Machine{
		Host: f, DefaultRuntime: "gantry", Runtime: func(n string) bool { return n == "gantry" },
		Exists: func(p string) (bool, error) { return p == "/there", nil },
	}
}

// TestValidateRemapped: what a container with a user namespace of its own may not have.
func TestValidateRemapped(t *testing.T) {
	type h = containertypes.HostConfig
	for _, c := range []struct {
		name, want string
		host       h
	}{
		{name: "plain"},
		{name: "privileged", host: h{Privileged: true}, want: "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"},
		{name: "network", host: h{NetworkMode: "host"}, want: "cannot share the host's network namespace when user namespaces are enabled"},
		{name: "pid", host: h{PidMode: "host"}, want: "cannot share the host PID namespace when user namespaces are enabled"},
		{name: "ipc", host: h{IpcMode: "host"}},
		{name: "all of it in the host's", host: h{UsernsMode: "host", Privileged: true, NetworkMode: "host", PidMode: "host"}},
	} {
		env := machine(features())
		env.Remapped = true
		_, err := spec.Validate(&containertypes.Config{}, &c.host, env, false)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	type c = containertypes.Config
	type h = containertypes.HostConfig
	second := time.Second
	tests := []struct {
		name, want string // the error, or "warn: " and the only warning, or "" for neither
		change     func(*c, *h)
		features   func(*host.Features)
	}{
		{name: "plain"},
		{name: "network container", want: "invalid network mode: invalid container format container:<name|id>", change: func(_ *c, h *h) { h.NetworkMode = "container:" }},
		{name: "network container, hostname", want: "conflicting options: hostname and the network mode", change: func(c *c, h *h) { h.NetworkMode = "container:x"; c.Hostname = "a" }},
		{name: "network container, dns", want: "conflicting options: dns and the network mode", change: func(_ *c, h *h) { h.NetworkMode = "container:x"; h.DNS = []string{"1.1.1.1"} }},
		{name: "network container, hosts", want: "conflicting options: custom host-to-IP mapping and the network mode", change: func(_ *c, h *h) { h.NetworkMode = "container:x"; h.ExtraHosts = []string{"a:1.1.1.1"} }},
		{name: "network container, ports", want: "conflicting options: port publishing and the container type network mode", change: func(_ *c, h *h) { h.NetworkMode = "container:x"; h.PublishAllPorts = true }},
		{name: "network container, expose", want: "conflicting options: port exposing and the container type network mode", change: func(c *c, h *h) {
			h.NetworkMode = "container:x"
			c.ExposedPorts = nat.PortSet{"80/tcp": {}}
		}},
		{name: "uts host, hostname", want: "conflicting options: hostname and the UTS mode", change: func(c *c, h *h) { h.UTSMode = "host"; c.Hostname = "a" }},
		{name: "isolation", want: "invalid isolation (hyperv): linux only supports 'default'", change: func(_ *c, h *h) { h.Isolation = "hyperv" }},
		{name: "qos", want: "invalid option: QoS maximum IOPs configuration is not supported on linux", change: func(_ *c, h *h) { h.IOMaximumIOps = 1 }},
		{name: "real time", want: "kernel does not support CPU real-time scheduler", change: func(_ *c, h *h) { h.CPURealtimePeriod = 1 }},
		{name: "shares", want: "invalid CPU shares (-1): value must be a positive integer", change: func(_ *c, h *h) { h.CPUShares = -1 }},
		{name: "working dir", want: "the working directory 'x' is invalid, it needs to be an absolute path", change: func(c *c, _ *h) { c.WorkingDir = "x" }},
		{name: "stop signal", want: "invalid signal: BOGUS", change: func(c *c, _ *h) { c.StopSignal = "BOGUS" }},
		{name: "env", want: "invalid environment variable: =x", change: func(c *c, _ *h) { c.Env = []string{"=x"} }},
		{name: "health", want: "Interval in Healthcheck cannot be less than 1ms", change: func(c *c, _ *h) { c.Healthcheck = &containertypes.HealthConfig{Interval: 1} }},
		{name: "health retries", want: "Retries in Healthcheck cannot be negative", change: func(c *c, _ *h) { c.Healthcheck = &containertypes.HealthConfig{Interval: second, Retries: -1} }},
		{name: "auto remove", want: "can't create 'AutoRemove' container with restart policy", change: func(_ *c, h *h) { h.AutoRemove = true; h.RestartPolicy.Name = "always" }},
		{name: "mount", want: `invalid mount config for type "bind": bind source path does not exist: /x`, change: func(_ *c, h *h) { h.Mounts = []mounttypes.Mount{{Type: "bind", Source: "/x", Target: "/t"}} }},
		{name: "extra host", want: `invalid IP address in add-host: "x"`, change: func(_ *c, h *h) { h.ExtraHosts = []string{"a:x"} }},
		{name: "extra host gateway", change: func(_ *c, h *h) { h.ExtraHosts = []string{"a:host-gateway", "b:[::1]", "c:::1"} }},
		{name: "port", want: `invalid port specification: "x"`, change: func(_ *c, h *h) { h.PortBindings = nat.PortMap{"80/tcp": {{HostPort: "x"}}} }},
		{name: "restart policy", want: "invalid restart policy: maximum retry count can only be used with 'on-failure'", change: func(_ *c, h *h) {
			h.RestartPolicy = containertypes.RestartPolicy{Name: "always", MaximumRetryCount: 1}
		}},
		{name: "cap unknown", want: `invalid CapAdd: unknown capability: "CAP_X"`, change: func(_ *c, h *h) { h.CapAdd = []string{"x"} }},
		{name: "cap not ours", want: `invalid CapAdd: capability not supported by your kernel or not available in the current environment: "CAP_SYS_RESOURCE"`, change: func(_ *c, h *h) { h.CapAdd = []string{"sys_resource"} }},
		{name: "cap not ours, dropped", change: func(_ *c, h *h) { h.CapDrop = []string{"sys_resource"} }},
		{name: "annotation", want: "invalid Annotations: the empty string is not permitted as an annotation key", change: func(_ *c, h *h) { h.Annotations = map[string]string{"": "x"} }},
		{name: "memory", want: "Minimum memory limit allowed is 6MB", change: func(_ *c, h *h) { h.Memory = 1 }},
		{name: "swap below memory", want: "Minimum memoryswap limit should be larger than memory limit, see usage", change: func(_ *c, h *h) { h.Memory, h.MemorySwap = 10<<20, 7<<20 }},
		{name: "swap alone", want: "You should always set the Memory limit when using Memoryswap limit, see usage", change: func(_ *c, h *h) { h.MemorySwap = 7 << 20 }},
		{name: "swappiness", want: "Invalid value: 101, valid memory swappiness range is 0-100", change: func(_ *c, h *h) { h.MemorySwappiness = ptr(int64(101)) }},
		{name: "swappiness unset", change: func(_ *c, h *h) { h.MemorySwappiness = ptr(int64(-1)) }},
		{name: "reservation", want: "Minimum memory limit can not be less than memory reservation limit, see usage", change: func(_ *c, h *h) { h.Memory, h.MemoryReservation = 7<<20, 8<<20 }},
		{name: "kernel memory", want: "warn: Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.", change: func(_ *c, h *h) { h.KernelMemory = 7 << 20 }}, //nolint:staticcheck // older clients send it
		{name: "no swap accounting", want: "warn: Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.", change: func(_ *c, h *h) { h.Memory = 7 << 20 }, features: func(f *host.Features) { f.SwapLimit = false }},
		{name: "no memory control", want: "warn: Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.", change: func(_ *c, h *h) { h.Memory = 7 << 20 }, features: func(f *host.Features) { f.MemoryLimit = false }},
		{name: "oom kill disabled", want: "warn: OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.", change: func(_ *c, h *h) { h.OomKillDisable = ptr(true) }},
		{name: "nano and period", want: "Conflicting options: Nano CPUs and CPU Period cannot both be set", change: func(_ *c, h *h) { h.NanoCPUs, h.CPUPeriod = 1e9, 1000 }},
		{name: "too many cpus", want: "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available", change: func(_ *c, h *h) { h.NanoCPUs = 5e9 }},
		{name: "period", want: "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", change: func(_ *c, h *h) { h.CPUPeriod = 10 }},
		{name: "quota", want: "CPU cfs quota can not be less than 1ms (i.e. 1000)", change: func(_ *c, h *h) { h.CPUQuota = 10 }},
		{name: "cpuset", want: "Requested CPUs are not available - requested 2-7, available: 0-3", change: func(_ *c, h *h) { h.CpusetCpus = "2-7" }},
		{name: "cpuset list", want: "Invalid value 1- for cpuset cpus: invalid format: 1-", change: func(_ *c, h *h) { h.CpusetCpus = "1-" }},
		{name: "cpuset huge", want: "Invalid value 0-999999999 for cpuset cpus: invalid format: 0-999999999", change: func(_ *c, h *h) { h.CpusetCpus = "0-999999999" }},
		{name: "weight", want: "Range of blkio weight is from 10 to 1000", change: func(_ *c, h *h) { h.BlkioWeight = 5 }},
		{name: "no throttling", want: "warn: Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.", change: func(_ *c, h *h) {
			h.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{}}
		}, features: func(f *host.Features) { f.BlkioReadBps = false }},
		{name: "ipc", want: "invalid IPC mode: x", change: func(_ *c, h *h) { h.IpcMode = "x" }},
		{name: "pid", want: "invalid PID mode: x", change: func(_ *c, h *h) { h.PidMode = "x" }},
		{name: "shm", want: "SHM size can not be less than 0", change: func(_ *c, h *h) { h.ShmSize = -1 }},
		{name: "uts", want: "invalid UTS mode: x", change: func(_ *c, h *h) { h.UTSMode = "x" }},
		{name: "oom score", want: "Invalid value 1001, range for oom score adj is [-1000, 1000]", change: func(_ *c, h *h) { h.OomScoreAdj = 1001 }},
		{name: "forwarding", want: "warn: IPv4 forwarding is disabled. Networking will not work.", features: func(f *host.Features) { f.IPv4Forwarding = false }},
		{name: "host ports", want: "warn: Published ports are discarded when using host network mode", change: func(_ *c, h *h) {
			h.NetworkMode = "host"
			h.PortBindings = nat.PortMap{"80/tcp": {{HostPort: "80"}}}
		}},
		{name: "runtime", want: "unknown or invalid runtime name: x", change: func(_ *c, h *h) { h.Runtime = "x" }},
		{name: "tmpfs", want: "invalid mount path: 'x' mount path must be absolute", change: func(_ *c, h *h) { h.Tmpfs = map[string]string{"x": ""} }},
		{name: "cgroupns", want: "invalid cgroup namespace mode: x", change: func(_ *c, h *h) { h.CgroupnsMode = "x" }},
		{name: "userns", want: "invalid user namespace mode: x", change: func(_ *c, h *h) { h.UsernsMode = "x" }},
		{name: "device rule", want: "invalid device cgroup rule format: 'x'", change: func(_ *c, h *h) { h.DeviceCgroupRules = []string{"x"} }},
		{name: "gpus are looked for at start", change: func(_ *c, h *h) {
			h.DeviceRequests = []containertypes.DeviceRequest{{Capabilities: [][]string{{"gpu"}}}}
		}},
		{name: "links", change: func(_ *c, h *h) { h.Links = []string{"a"} }},
		{name: "links, host network", want: "conflicting options: host type networking can't be used with links. This would result in undefined behavior", change: func(_ *c, h *h) {
			h.NetworkMode, h.Links = "host", []string{"a"}
		}},
		{name: "links, network container", want: "conflicting options: container type network can't be used with links. This would result in undefined behavior", change: func(_ *c, h *h) {
			h.NetworkMode, h.Links = "container:x", []string{"a"}
		}},
		{name: "npipe", want: `invalid mount config for type "npipe": mount type unknown`, change: func(_ *c, h *h) {
			h.Mounts = []mounttypes.Mount{{Type: "npipe", Source: "a", Target: "/b"}}
		}},
		{name: "cluster", want: `invalid mount config for type "cluster": mount type unknown`, change: func(_ *c, h *h) {
			h.Mounts = []mounttypes.Mount{{Type: "cluster", Source: "a", Target: "/b"}}
		}},
		{name: "image", want: "warn: Image mount is an experimental feature", change: func(_ *c, h *h) {
			h.Mounts = []mounttypes.Mount{{Type: "image", Source: "a", Target: "/b", ImageOptions: &mounttypes.ImageOptions{Subpath: "c"}}}
		}},
		{name: "image, subpath", want: `invalid mount config for type "image": subpath must be a relative path within the volume`, change: func(_ *c, h *h) {
			h.Mounts = []mounttypes.Mount{{Type: "image", Source: "a", Target: "/b", ImageOptions: &mounttypes.ImageOptions{Subpath: "../c"}}}
		}},
		{name: "volume, subpath", change: func(_ *c, h *h) {
			h.Mounts = []mounttypes.Mount{{Type: "volume", Source: "a", Target: "/b", VolumeOptions: &mounttypes.VolumeOptions{Subpath: "c"}}}
		}},
		{name: "anonymous volume, subpath", want: `invalid mount config for type "volume": must not set Subpath when using anonymous volumes`, change: func(_ *c, h *h) {
			h.Mounts = []mounttypes.Mount{{Type: "volume", Target: "/b", VolumeOptions: &mounttypes.VolumeOptions{Subpath: "c"}}}
		}},
		{name: "ulimit", want: "invalid ulimit name bogus", change: func(_ *c, h *h) { h.Ulimits = []*containertypes.Ulimit{{Name: "bogus", Soft: 1, Hard: 1}} }},
		{name: "ulimit, soft above hard", want: "ulimit soft limit must be less than or equal to hard limit: 2 > 1", change: func(_ *c, h *h) {
			h.Ulimits = []*containertypes.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}}
		}},
		{name: "name server", change: func(_ *c, h *h) { h.DNS = []string{"1.1.1.1", "fe80::1%eth0"} }},
		{name: "name server without an address", want: `bad nameserver address x: ParseAddr("x"): unable to parse IP`, change: func(_ *c, h *h) { h.DNS = []string{"x"} }},
		{name: "group without a name", want: "invalid additional group: the name is empty", change: func(_ *c, h *h) { h.GroupAdd = []string{"1", ""} }},
		{name: "ulimit, null", want: "invalid ulimit: null", change: func(_ *c, h *h) { h.Ulimits = []*containertypes.Ulimit{nil} }},
		{name: "weight device, null", want: "invalid block device setting: null", change: func(_ *c, h *h) { h.BlkioWeightDevice = []*blkiodev.WeightDevice{nil} }},
		{name: "throttled device, null", want: "invalid block device setting: null", change: func(_ *c, h *h) { h.BlkioDeviceWriteIOps = []*blkiodev.ThrottleDevice{nil} }},
		{name: "ulimit, no hard limit", change: func(_ *c, h *h) { h.Ulimits = []*containertypes.Ulimit{{Name: "nofile", Soft: 2, Hard: -1}} }},
		{name: "ulimit, no soft limit", want: "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 5", change: func(_ *c, h *h) {
			h.Ulimits = []*containertypes.Ulimit{{Name: "nofile", Soft: -1, Hard: 5}}
		}},
		{name: "exposed", change: func(c *c, _ *h) { c.ExposedPorts = nat.PortSet{"80": {}, "1-5/udp": {}, "9/sctp": {}} }},
		{name: "exposed, no number", want: `invalid port specification: "x/tcp"`, change: func(c *c, _ *h) { c.ExposedPorts = nat.PortSet{"x/tcp": {}} }},
		{name: "exposed, no protocol", want: `invalid port specification: "1/x"`, change: func(c *c, _ *h) { c.ExposedPorts = nat.PortSet{"1/x": {}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := features()
			if tt.features != nil {
				tt.features(&f)
			}
			config, hostConfig := &c{}, &h{NetworkMode: "bridge"}
			if tt.change != nil {
				tt.change(config, hostConfig)
			}
			warnings, err := spec.Validate(config, hostConfig, machine(f), false)
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case len(warnings) > 0:
				got = "warn: " + strings.Join(warnings, "; ")
			case hostConfig.Runtime != "gantry":
				t.Errorf("runtime %q", hostConfig.Runtime)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	image := func() *dockerspec.DockerOCIImageConfig {
		return &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
			User: "u", Env: []string{"A=1", "B=2"}, Cmd: []string{"c"}, Entrypoint: []string{"e"}, WorkingDir: "/w",
			Labels: map[string]string{"l": "1", "m": "2"}, StopSignal: "QUIT",
			ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/v": {}},
		}}
	}
	tests := []struct {
		name, want string
		in         containertypes.Config
		get        func(*containertypes.Config) any
	}{
		{name: "all of the image's", get: func(c *containertypes.Config) any {
			return []any{c.User, c.Env, c.Entrypoint, c.Cmd, c.WorkingDir, c.Labels, c.StopSignal, c.ExposedPorts, c.Volumes}
		}, want: `["u",["A=1","B=2"],["e"],["c"],"/w",{"l":"1","m":"2"},"QUIT",{"80/tcp":{}},{"/v":{}}]`},
		{name: "env", in: containertypes.Config{Env: []string{"B", "C=3"}}, get: func(c *containertypes.Config) any { return c.Env }, want: `["B","C=3","A=1"]`},
		{name: "command only", in: containertypes.Config{Cmd: []string{"x"}}, get: func(c *containertypes.Config) any { return []any{c.Entrypoint, c.Cmd} }, want: `[["e"],["x"]]`},
		{name: "entrypoint voids the image's command", in: containertypes.Config{Entrypoint: []string{"x"}}, get: func(c *containertypes.Config) any { return []any{c.Entrypoint, c.Cmd} }, want: `[["x"],null]`},
		{name: "entrypoint taken off", in: containertypes.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, get: func(c *containertypes.Config) any { return []any{c.Entrypoint, c.Cmd} }, want: `[null,["x"]]`},
		{name: "labels", in: containertypes.Config{Labels: map[string]string{"l": "9"}}, get: func(c *containertypes.Config) any { return c.Labels }, want: `{"l":"9","m":"2"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.in
			if err := spec.Merge(&c, image()); err != nil {
				t.Fatal(err)
			}
			if got := show(tt.get(&c)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	if err := spec.Merge(&containertypes.Config{}, nil); err == nil || err.Error() != "no command specified" {
		t.Errorf("nothing to run: %v", err)
	}
}

func TestAdapt(t *testing.T) {
	h := &containertypes.HostConfig{Resources: containertypes.Resources{Memory: 5}}
	spec.Adapt(h, spec.Defaults{}, features())
	if h.MemorySwap != 10 || h.ShmSize != 64<<20 || h.IpcMode != "private" || h.CgroupnsMode != "host" || *h.OomKillDisable || len(h.MaskedPaths) != 12 {
		t.Errorf("v1: %s", show(h))
	}
	v2 := features()
	v2.CgroupV2 = true
	h = &containertypes.HostConfig{Privileged: true}
	spec.Adapt(h, spec.Defaults{IpcMode: "shareable", ShmSize: 7}, v2)
	if h.ShmSize != 7 || h.IpcMode != "shareable" || h.CgroupnsMode != "private" || h.MaskedPaths != nil {
		t.Errorf("v2: %s", show(h))
	}
}

func TestMergeUpdate(t *testing.T) {
	base := func() *containertypes.HostConfig {
		return &containertypes.HostConfig{Resources: containertypes.Resources{Memory: 10, MemorySwap: 20, CPUQuota: 5}}
	}
	tests := []struct {
		name, text string
		u          containertypes.HostConfig
	}{
		{name: "limits", u: containertypes.HostConfig{Resources: containertypes.Resources{Memory: 15, CPUShares: 7}}},
		{name: "memory above swap", u: containertypes.HostConfig{Resources: containertypes.Resources{Memory: 30}}, text: "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"},
		{name: "both", u: containertypes.HostConfig{Resources: containertypes.Resources{Memory: 30, MemorySwap: 60}}},
		{name: "memory with swap", u: containertypes.HostConfig{Resources: containertypes.Resources{MemorySwap: 30}}},
		{name: "nano over quota", u: containertypes.HostConfig{Resources: containertypes.Resources{NanoCPUs: 1}}, text: "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"},
	}
	for _, tt := range tests {
		h := base()
		err := spec.MergeUpdate(h, &tt.u)
		if got := ""; err != nil && err.Error() != tt.text || err == nil && tt.text != got {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && (h.Memory != tt.u.Memory || tt.u.Memory == 0) {
			t.Errorf("%s: memory %d", tt.name, h.Memory)
		}
	}
}

// Who has no limit of memory and swap together can't limit memory alone, as with dockerd.
func TestMergeUpdateUnlimited(t *testing.T) {
	for _, swap := range []int64{0, -1} {
		h := &containertypes.HostConfig{Resources: containertypes.Resources{MemorySwap: swap}}
		u := &containertypes.HostConfig{Resources: containertypes.Resources{Memory: 64 << 20}}
		if err := spec.MergeUpdate(h, u); !errdefs.IsConflict(err) {
			t.Errorf("swap %d: %v", swap, err)
		}
	}
	got := spec.Update(containertypes.Resources{MemorySwap: -1})
	if got.Memory == nil || got.Memory.Swap == nil || *got.Memory.Swap != -1 {
		t.Errorf("the swap's limit is not lifted: %+v", got.Memory)
	}
}

func TestSecurity(t *testing.T) {
	s, err := spec.ParseSecurity([]string{"no-new-privileges", "seccomp=unconfined", "apparmor:x", "label=disable", "writable-cgroups=false"}, false)
	if err != nil || !s.NoNewPrivileges || s.Seccomp != "unconfined" || s.AppArmor != "x" || *s.WritableCgroups || len(s.Labels) != 1 {
		t.Errorf("%+v %v", s, err)
	}
	for in, want := range map[string]string{
		"bogus": `invalid --security-opt 1: "bogus"`, "a=b": `invalid --security-opt 2: "a=b"`, "no-new-privileges=x": `invalid --security-opt 2: "no-new-privileges=x"`,
	} {
		if _, err := spec.ParseSecurity([]string{in}, false); err == nil || err.Error() != want {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestCheckEndpoint(t *testing.T) {
	for want, e := range map[string]*networktypes.EndpointSettings{
		"": {MacAddress: "02:42:00:00:00:01", DriverOpts: map[string]string{"other": "x"}, IPAMConfig: &networktypes.EndpointIPAMConfig{}},
		"EndpointSettings.Links is not supported by this engine yet":                            {Links: []string{"a"}},
		"EndpointSettings.IPAMConfig.LinkLocalIPs is not supported by this engine yet":          {IPAMConfig: &networktypes.EndpointIPAMConfig{LinkLocalIPs: []string{"169.254.1.1"}}},
		"driver option com.docker.network.endpoint.ifname is not supported by this engine yet":  {DriverOpts: map[string]string{"com.docker.network.endpoint.ifname": "up0"}},
		"driver option com.docker.network.endpoint.sysctls is not supported by this engine yet": {DriverOpts: map[string]string{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}},
	} {
		if err := spec.CheckEndpoint(e); (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
