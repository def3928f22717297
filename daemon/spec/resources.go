package spec

import (
	"fmt"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func setResources(s *specs.Spec, in Input) error {
	r := in.HostConfig.Resources
	block, err := blockIO(r, in.BlockDevs)
	if err != nil {
		return err
	}
	s.Linux.Resources.BlockIO = block
	s.Linux.Resources.Memory = memory(r)
	s.Linux.Resources.CPU = cpu(r)
	s.Linux.Resources.Pids = pids(r)
	return nil
}

// Update is what `docker update` sends to a running task: the given fields only.
func Update(r containertypes.Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{CPU: cpu(r), Pids: pids(r)}
	if r.BlkioWeight != 0 {
		w := r.BlkioWeight
		out.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	r.MemorySwappiness, r.OomKillDisable = nil, nil
	out.Memory = memory(r)
	if r.MemorySwap == -1 { // a create has none to lift
		if out.Memory == nil {
			out.Memory = &specs.LinuxMemory{}
		}
		out.Memory.Swap = &r.MemorySwap
	}
	return out
}

func memory(r containertypes.Resources) *specs.LinuxMemory {
	m := specs.LinuxMemory{
		Limit: positive(r.Memory), Reservation: positive(r.MemoryReservation),
		Swap: positive(r.MemorySwap), DisableOOMKiller: r.OomKillDisable,
	}
	if r.MemorySwappiness != nil {
		v := uint64(*r.MemorySwappiness)
		m.Swappiness = &v
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func cpu(r containertypes.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	set := func(to **uint64, v int64) {
		if v > 0 {
			u := uint64(v)
			*to = &u
		}
	}
	set(&c.Shares, r.CPUShares)
	if r.NanoCPUs > 0 {
		const period = 100000 // µs
		quota := r.NanoCPUs * period / 1e9
		set(&c.Period, period)
		c.Quota = &quota
	}
	set(&c.Period, r.CPUPeriod)
	if r.CPUQuota != 0 {
		q := r.CPUQuota
		c.Quota = &q
	}
	set(&c.RealtimePeriod, r.CPURealtimePeriod)
	if r.CPURealtimeRuntime != 0 {
		q := r.CPURealtimeRuntime
		c.RealtimeRuntime = &q
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

// pids: Docker takes 0 and below as unlimited, the runtime wants -1.
func pids(r containertypes.Resources) *specs.LinuxPids {
	if r.PidsLimit == nil {
		return nil
	}
	limit := *r.PidsLimit
	if limit <= 0 {
		limit = -1
	}
	return &specs.LinuxPids{Limit: &limit}
}

func positive(v int64) *int64 {
	if v <= 0 {
		return nil
	}
	return &v
}

// BlockPaths lists the device paths that blkio settings name.
func BlockPaths(r containertypes.Resources) []string {
	var out []string
	for _, w := range r.BlkioWeightDevice {
		out = append(out, w.Path)
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps,
	} {
		for _, d := range list {
			out = append(out, d.Path)
		}
	}
	return out
}

func blockIO(r containertypes.Resources, devs map[string][2]int64) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	if r.BlkioWeight != 0 {
		w := r.BlkioWeight
		b.Weight = &w
	}
	for _, w := range r.BlkioWeightDevice {
		n, ok := devs[w.Path]
		if !ok {
			return nil, fmt.Errorf("stat %s: no such block device", w.Path)
		}
		weight := w.Weight
		d := specs.LinuxWeightDevice{Weight: &weight}
		d.Major, d.Minor = n[0], n[1]
		b.WeightDevice = append(b.WeightDevice, d)
	}
	for _, t := range []struct {
		in  []*blkiodev.ThrottleDevice
		out *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice}, {r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice}, {r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.in {
			n, ok := devs[d.Path]
			if !ok {
				return nil, fmt.Errorf("stat %s: no such block device", d.Path)
			}
			limit := specs.LinuxThrottleDevice{Rate: d.Rate}
			limit.Major, limit.Minor = n[0], n[1]
			*t.out = append(*t.out, limit)
		}
	}
	if r.BlkioWeight == 0 && len(BlockPaths(r)) == 0 {
		return nil, nil
	}
	return b, nil
}
