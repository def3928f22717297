package spec

import (
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"

	"gantry/daemon/host"
)

// Defaults are the daemon's own answers to what a user left open.
type Defaults struct {
	ShmSize      int64                       // bytes; 0 is 64 MiB
	IpcMode      containertypes.IpcMode      // "" is private
	CgroupnsMode containertypes.CgroupnsMode // "" is private on cgroup v2, else host
}

const shmSize = 64 << 20

// Adapt fills in the defaults of a validated HostConfig.
func Adapt(h *containertypes.HostConfig, d Defaults, f host.Features) {
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = h.Memory * 2
	}
	if h.ShmSize == 0 {
		h.ShmSize = shmSize
		if d.ShmSize > 0 {
			h.ShmSize = d.ShmSize
		}
	}
	if h.IpcMode.IsEmpty() {
		h.IpcMode = containertypes.IPCModePrivate
		if d.IpcMode != "" {
			h.IpcMode = d.IpcMode
		}
	}
	if h.CgroupnsMode.IsEmpty() {
		h.CgroupnsMode = cgroupns(h.Privileged, d.CgroupnsMode, f.CgroupV2)
	}
	if unlabelled(h) {
		h.SecurityOpt = append(slices.Clone(h.SecurityOpt), "label=disable")
	}
	if h.OomKillDisable == nil && f.OomKillDisable {
		no := false
		h.OomKillDisable = &no
	}
	if !h.Privileged {
		if h.MaskedPaths == nil {
			h.MaskedPaths = DefaultMasked(f)
		}
		if h.ReadonlyPaths == nil {
			h.ReadonlyPaths = DefaultReadonly()
		}
	}
}

// unlabelled says that no label could part the container from the host, and that none
// was asked for.
func unlabelled(h *containertypes.HostConfig) bool {
	asked := func(o string) bool { k, _, _ := strings.Cut(o, "="); return k == "label" }
	return (h.Privileged || h.IpcMode.IsHost() || h.PidMode.IsHost()) && !slices.ContainsFunc(h.SecurityOpt, asked)
}

func cgroupns(privileged bool, preset containertypes.CgroupnsMode, v2 bool) containertypes.CgroupnsMode {
	switch {
	case privileged && !v2:
		return containertypes.CgroupnsModeHost
	case preset != "":
		return preset
	case v2:
		return containertypes.CgroupnsModePrivate
	}
	return containertypes.CgroupnsModeHost
}

// NormalNetwork gives the default network its name, in the mode and among the endpoints.
func NormalNetwork(h *containertypes.HostConfig, n *networktypes.NetworkingConfig) {
	if h.NetworkMode != "" && !h.NetworkMode.IsDefault() {
		return
	}
	h.NetworkMode = networktypes.NetworkBridge
	if n == nil {
		return
	}
	if ep, ok := n.EndpointsConfig[networktypes.NetworkDefault]; ok {
		n.EndpointsConfig[networktypes.NetworkBridge] = ep
		delete(n.EndpointsConfig, networktypes.NetworkDefault)
	}
}
