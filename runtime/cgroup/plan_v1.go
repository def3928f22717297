package cgroup

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// v1State is what a v1 plan depends on.
type v1State struct {
	// memsw is the limit of memory and swap in force; noSwap: it is not counted.
	memsw  uint64
	noSwap bool
}

// planV1 gives the writes for all of r but the devices.
func planV1(r *specs.LinuxResources, now v1State) ([]setting, []Warning, error) {
	if r == nil {
		return nil, nil, nil
	}
	if len(r.Unified) > 0 {
		return nil, nil, fmt.Errorf("unified resources need cgroup v2: %w", errdefs.ErrInvalidArgument)
	}
	var ss []setting
	var warnings []Warning
	if r.CPU != nil {
		cpu, err := planCPUV1(r.CPU)
		if err != nil {
			return nil, nil, err
		}
		ss = append(ss, cpu...)
	}
	if m := r.Memory; m != nil {
		if m.Kernel != nil {
			warnings = append(warnings, "kernel memory limits are gone from the kernel: left out")
		}
		mem, err := planMemoryV1(m, now)
		if err != nil {
			return nil, nil, err
		}
		ss = append(ss, mem...)
	}
	ss = append(ss, planBlkio(r.BlockIO)...)
	if r.Pids != nil && r.Pids.Limit != nil {
		ss = append(ss, setting{controller: "pids", file: "pids.max", value: pidsMax(*r.Pids.Limit)})
	}
	rest, err := planRestV1(r)
	return append(ss, rest...), warnings, err
}

// The kernel's bounds of cpu.shares; it would clamp in silence.
const (
	minShares = 2
	maxShares = 262144
)

func planCPUV1(c *specs.LinuxCPU) ([]setting, error) {
	var ss []setting
	add := func(file, value string) { ss = append(ss, setting{controller: "cpu", file: file, value: value}) }
	later := func(file, value string) {
		ss = append(ss, setting{controller: "cpu", file: file, value: value, later: true})
	}
	if c.Shares != nil && *c.Shares != 0 {
		switch {
		case *c.Shares < minShares:
			return nil, fmt.Errorf("the minimum allowed cpu-shares is %d: %w", minShares, errdefs.ErrInvalidArgument)
		case *c.Shares > maxShares:
			return nil, fmt.Errorf("the maximum allowed cpu-shares is %d: %w", maxShares, errdefs.ErrInvalidArgument)
		}
		add("cpu.shares", itoa(*c.Shares))
	}
	if c.Idle != nil {
		add("cpu.idle", itoa(*c.Idle))
	}
	if c.Burst != nil {
		later("cpu.cfs_burst_us", itoa(*c.Burst))
	}
	if c.Period != nil && *c.Period != 0 {
		later("cpu.cfs_period_us", itoa(*c.Period))
	}
	if c.Quota != nil && *c.Quota != 0 {
		add("cpu.cfs_quota_us", itoa(*c.Quota))
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		later("cpu.rt_period_us", itoa(*c.RealtimePeriod))
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		add("cpu.rt_runtime_us", itoa(*c.RealtimeRuntime))
	}
	return append(ss, planCpuset(c)...), nil
}

func planCpuset(c *specs.LinuxCPU) (ss []setting) {
	if c.Cpus != "" {
		ss = append(ss, setting{controller: "cpuset", file: "cpuset.cpus", value: c.Cpus})
	}
	if c.Mems != "" {
		ss = append(ss, setting{controller: "cpuset", file: "cpuset.mems", value: c.Mems})
	}
	return ss
}

func planMemoryV1(m *specs.LinuxMemory, now v1State) ([]setting, error) {
	const c = "memory"
	ss := planLimitsV1(m, now)
	if m.Reservation != nil && *m.Reservation != 0 {
		ss = append(ss, setting{controller: c, file: "memory.soft_limit_in_bytes", value: itoa(*m.Reservation)})
	}
	if m.KernelTCP != nil && *m.KernelTCP != 0 {
		ss = append(ss, setting{controller: c, file: "memory.kmem.tcp.limit_in_bytes", value: itoa(*m.KernelTCP)})
	}
	if m.Swappiness != nil && int64(*m.Swappiness) != -1 {
		if *m.Swappiness > 100 {
			return nil, fmt.Errorf("memory swappiness %d: the range is 0 to 100: %w", *m.Swappiness, errdefs.ErrInvalidArgument)
		}
		ss = append(ss, setting{controller: c, file: "memory.swappiness", value: itoa(*m.Swappiness)})
	}
	if m.DisableOOMKiller != nil {
		// False is what a cgroup begins with; a host without the file needs no write.
		v := setting{controller: c, file: "memory.oom_control", value: "0", optional: true}
		if *m.DisableOOMKiller {
			v = setting{controller: c, file: "memory.oom_control", value: "1"}
		}
		ss = append(ss, v)
	}
	return ss, nil
}

// planLimitsV1 keeps the kernel's rule memory ≤ memory+swap at each step: going
// up, the sum is raised first; going down, it is lowered last.
func planLimitsV1(m *specs.LinuxMemory, now v1State) []setting {
	var limit, swap int64
	if m.Limit != nil {
		limit = *m.Limit
	}
	if m.Swap != nil {
		swap = *m.Swap
	}
	if limit == -1 && swap == 0 && !now.noSwap {
		swap = -1 // an unlimited memory with a limited sum would be no change
	}
	lim := setting{controller: "memory", file: "memory.limit_in_bytes", value: itoa(limit)}
	// Where swap is not counted, asking for no limit on it asks for nothing.
	sum := setting{controller: "memory", file: "memory.memsw.limit_in_bytes", value: itoa(swap), optional: swap == -1}
	switch {
	case limit == 0 && swap == 0:
		return nil
	case swap == 0:
		return []setting{lim}
	case limit == 0:
		return []setting{sum}
	case swap == -1 || uint64(swap) >= now.memsw:
		return []setting{sum, lim}
	default:
		return []setting{lim, sum}
	}
}

func planBlkio(b *specs.LinuxBlockIO) (ss []setting) {
	if b == nil {
		return nil
	}
	// BFQ's file is where CFQ's was.
	weight := func(file, value string) {
		ss = append(ss, setting{
			controller: "blkio", file: "blkio." + file, value: value,
			alt: &setting{controller: "blkio", file: "blkio.bfq." + file, value: value},
		})
	}
	if b.Weight != nil && *b.Weight != 0 {
		weight("weight", itoa(*b.Weight))
	}
	if b.LeafWeight != nil && *b.LeafWeight != 0 {
		ss = append(ss, setting{controller: "blkio", file: "blkio.leaf_weight", value: itoa(*b.LeafWeight)})
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil && *d.Weight != 0 {
			weight("weight_device", device(d.LinuxBlockIODevice)+" "+itoa(*d.Weight))
		}
		if d.LeafWeight != nil && *d.LeafWeight != 0 {
			ss = append(ss, setting{controller: "blkio", file: "blkio.leaf_weight_device", value: device(d.LinuxBlockIODevice) + " " + itoa(*d.LeafWeight)})
		}
	}
	for _, t := range []struct {
		file    string
		devices []specs.LinuxThrottleDevice
	}{
		{"read_bps", b.ThrottleReadBpsDevice}, {"write_bps", b.ThrottleWriteBpsDevice},
		{"read_iops", b.ThrottleReadIOPSDevice}, {"write_iops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			ss = append(ss, setting{controller: "blkio", file: "blkio.throttle." + t.file + "_device", value: device(d.LinuxBlockIODevice) + " " + itoa(d.Rate)})
		}
	}
	return ss
}

func planRestV1(r *specs.LinuxResources) (ss []setting, err error) {
	for _, h := range r.HugepageLimits {
		if err := checkPageSize(h.Pagesize); err != nil {
			return nil, err
		}
		ss = append(ss,
			setting{controller: "hugetlb", file: "hugetlb." + h.Pagesize + ".limit_in_bytes", value: itoa(h.Limit)},
			setting{controller: "hugetlb", file: "hugetlb." + h.Pagesize + ".rsvd.limit_in_bytes", value: itoa(h.Limit), optional: true})
	}
	if n := r.Network; n != nil {
		if n.ClassID != nil && *n.ClassID != 0 {
			ss = append(ss, setting{controller: "net_cls", file: "net_cls.classid", value: itoa(*n.ClassID)})
		}
		for _, p := range n.Priorities {
			ss = append(ss, setting{controller: "net_prio", file: "net_prio.ifpriomap", value: p.Name + " " + itoa(p.Priority)})
		}
	}
	for _, dev := range slices.Sorted(maps.Keys(r.Rdma)) {
		line, err := rdmaLine(dev, r.Rdma[dev])
		if err != nil {
			return nil, err
		}
		ss = append(ss, setting{controller: "rdma", file: "rdma.max", value: line})
	}
	return ss, nil
}
