package spec

import (
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
)

// MergeUpdate puts the given fields of u into h, and into u what else a running task has
// to be told with them. Limits of processor time that
// contradict the ones in force, and memory above the swap limit, are Conflict.
func MergeUpdate(h, u *containertypes.HostConfig) error {
	if err := checkUpdate(&h.Resources, &u.Resources); err != nil {
		return err
	}
	r, n := &h.Resources, u.Resources
	given(&r.BlkioWeight, n.BlkioWeight)
	given(&r.CPUShares, n.CPUShares)
	given(&r.NanoCPUs, n.NanoCPUs)
	given(&r.CPUPeriod, n.CPUPeriod)
	given(&r.CPUQuota, n.CPUQuota)
	given(&r.CpusetCpus, n.CpusetCpus)
	given(&r.CpusetMems, n.CpusetMems)
	given(&r.Memory, n.Memory)
	given(&r.MemorySwap, n.MemorySwap)
	given(&r.MemoryReservation, n.MemoryReservation)
	given(&r.CPURealtimePeriod, n.CPURealtimePeriod)
	given(&r.CPURealtimeRuntime, n.CPURealtimeRuntime)
	given(&r.PidsLimit, n.PidsLimit)
	if n.MemorySwap > 0 && n.Memory == 0 { // of cgroup v2 the swap alone is limited: it takes both to tell
		u.Memory = r.Memory
	}
	if u.RestartPolicy.Name == "" {
		return nil
	}
	if h.AutoRemove && !u.RestartPolicy.IsNone() {
		return errdefs.Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	h.RestartPolicy = u.RestartPolicy
	return nil
}

func checkUpdate(r, n *containertypes.Resources) error {
	switch {
	case n.NanoCPUs > 0 && r.CPUPeriod > 0:
		return errdefs.Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case n.NanoCPUs > 0 && r.CPUQuota > 0:
		return errdefs.Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case n.CPUPeriod > 0 && r.NanoCPUs > 0:
		return errdefs.Conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case n.CPUQuota > 0 && r.NanoCPUs > 0:
		return errdefs.Conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case n.Memory > r.MemorySwap && n.Memory != 0 && n.MemorySwap == 0: // with no limit of both, or none set, too: so dockerd has it
		return errdefs.Conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return nil
}

// given keeps the old value where the new one is zero.
func given[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}
