package cgroup

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// v2State is what a v2 plan depends on.
type v2State struct {
	cpuMax string // "max 100000": the quota and period in force; "" if not readable
	usage  uint64 // memory.current
}

// planV2 gives the writes for all of r but the devices. What v2 has no file for
// makes a warning.
func planV2(r *specs.LinuxResources, now v2State) ([]setting, []Warning, error) {
	if r == nil {
		return nil, nil, nil
	}
	var ss []setting
	var warnings []Warning
	if r.CPU != nil {
		cpu, w := planCPUV2(r.CPU, now)
		ss, warnings = append(ss, cpu...), append(warnings, w...)
	}
	if r.Memory != nil {
		mem, w, err := planMemoryV2(r.Memory, now)
		if err != nil {
			return nil, nil, err
		}
		ss, warnings = append(ss, mem...), append(warnings, w...)
	}
	ss = append(ss, planIO(r.BlockIO)...)
	if r.Pids != nil && r.Pids.Limit != nil {
		ss = append(ss, setting{controller: "pids", file: "pids.max", value: pidsMax(*r.Pids.Limit)})
	}
	if r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0) {
		warnings = append(warnings, "network class and priorities need cgroup v1: left out")
	}
	rest, err := planRestV2(r)
	return append(ss, rest...), warnings, err
}

func planCPUV2(c *specs.LinuxCPU, now v2State) (ss []setting, warnings []Warning) {
	add := func(file, value string) {
		ss = append(ss, setting{controller: "cpu", file: file, value: value})
	}
	// An idle group takes no weight: leave idle before, enter it after.
	if c.Idle != nil && *c.Idle == 0 {
		add("cpu.idle", "0")
	}
	if c.Shares != nil && *c.Shares != 0 {
		add("cpu.weight", itoa(cpuWeight(*c.Shares)))
	}
	if c.Idle != nil && *c.Idle != 0 {
		add("cpu.idle", itoa(*c.Idle))
	}
	if c.Burst != nil {
		ss = append(ss, setting{controller: "cpu", file: "cpu.max.burst", value: itoa(*c.Burst), later: true})
	}
	if v := cpuMax(c, now); v != "" {
		add("cpu.max", v)
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 || c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		warnings = append(warnings, "real-time CPU limits need cgroup v1: left out")
	}
	return append(ss, planCpuset(c)...), warnings
}

// cpuMax is the value of cpu.max: "QUOTA PERIOD", or "QUOTA" to keep the period.
func cpuMax(c *specs.LinuxCPU, now v2State) string {
	var quota, period string
	if c.Quota != nil && *c.Quota != 0 {
		quota = "max"
		if *c.Quota > 0 {
			quota = itoa(*c.Quota)
		}
	}
	if c.Period != nil && *c.Period != 0 {
		period = itoa(*c.Period)
	}
	if quota == "" && period != "" { // the file wants a quota: the one in force
		quota = "max"
		if f := strings.Fields(now.cpuMax); len(f) > 0 {
			quota = f[0]
		}
	}
	return strings.TrimSpace(quota + " " + period)
}

// cpuWeight turns shares (2..262144) to a weight (1..10000) so that both ends
// and both defaults (1024, 100) meet: 10^(l²/612 + 125·l/612 − 7/34), l the
// shares' binary logarithm.
func cpuWeight(shares uint64) uint64 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func planMemoryV2(m *specs.LinuxMemory, now v2State) (ss []setting, warnings []Warning, err error) {
	var limit, swap int64
	if m.Limit != nil {
		limit = *m.Limit
	}
	if m.Swap != nil {
		swap = *m.Swap
	}
	if limit > 0 && m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate && now.usage > uint64(limit) {
		return nil, nil, fmt.Errorf("memory limit %d is below the current usage of %d: %w", limit, now.usage, errdefs.ErrFailedPrecondition)
	}
	max, err := swapMax(limit, swap)
	if err != nil {
		return nil, nil, err
	}
	const c = "memory"
	if max != "" {
		// Where swap is not counted, none and any amount are the same.
		ss = append(ss, setting{controller: c, file: "memory.swap.max", value: max, optional: max == "max" || max == "0"})
	}
	if limit != 0 {
		ss = append(ss, setting{controller: c, file: "memory.max", value: orMax(limit)})
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		ss = append(ss, setting{controller: c, file: "memory.low", value: orMax(*m.Reservation)})
	}
	for what, given := range map[string]bool{
		"memory swappiness":            m.Swappiness != nil && int64(*m.Swappiness) != -1,
		"switching off the OOM killer": m.DisableOOMKiller != nil && *m.DisableOOMKiller,
		"a limit of kernel memory":     m.Kernel != nil && *m.Kernel > 0,
		"a limit of TCP buffer memory": m.KernelTCP != nil && *m.KernelTCP > 0,
	} {
		if given {
			warnings = append(warnings, what+" needs cgroup v1: left out")
		}
	}
	slices.Sort(warnings)
	return ss, warnings, nil
}

func orMax(n int64) string {
	if n == -1 {
		return "max"
	}
	return itoa(n)
}

// swapMax is the value of memory.swap.max for a limit of memory and one of
// memory and swap together; "" for no write.
func swapMax(limit, sum int64) (string, error) {
	switch {
	case sum == -1, limit == -1 && sum == 0: // unlimited memory lifts swap too
		return "max", nil
	case sum == 0:
		return "", nil
	case sum < -1:
		return "", fmt.Errorf("memory and swap limit %d: %w", sum, errdefs.ErrInvalidArgument)
	case limit == -1: // nothing to take off
		return itoa(sum), nil
	case limit == 0:
		return "", fmt.Errorf("unable to set swap limit without memory limit: %w", errdefs.ErrInvalidArgument)
	case limit < 0:
		return "", fmt.Errorf("memory limit %d: %w", limit, errdefs.ErrInvalidArgument)
	case sum < limit:
		return "", fmt.Errorf("memory+swap limit should be >= memory limit (%d, %d): %w", sum, limit, errdefs.ErrInvalidArgument)
	}
	return itoa(sum - limit), nil
}

// ioWeight turns a blkio weight (10..1000) to an io.weight (1..10000).
func ioWeight(w uint16) uint64 {
	if w < 10 {
		return 1
	}
	return 1 + (uint64(w)-10)*9999/990
}

func planIO(b *specs.LinuxBlockIO) (ss []setting) {
	if b == nil {
		return nil
	}
	weight := func(prefix string, w uint16) {
		ss = append(ss, setting{
			controller: "io", file: "io.bfq.weight", value: prefix + itoa(w),
			alt: &setting{controller: "io", file: "io.weight", value: prefix + itoa(ioWeight(w))},
		})
	}
	if b.Weight != nil && *b.Weight != 0 {
		weight("", *b.Weight)
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil && *d.Weight != 0 {
			weight(device(d.LinuxBlockIODevice)+" ", *d.Weight)
		}
	}
	for _, t := range []struct {
		key     string
		devices []specs.LinuxThrottleDevice
	}{
		{"rbps", b.ThrottleReadBpsDevice}, {"wbps", b.ThrottleWriteBpsDevice},
		{"riops", b.ThrottleReadIOPSDevice}, {"wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			rate := itoa(d.Rate)
			if d.Rate == 0 {
				rate = "max"
			}
			ss = append(ss, setting{controller: "io", file: "io.max", value: device(d.LinuxBlockIODevice) + " " + t.key + "=" + rate})
		}
	}
	return ss
}

func planRestV2(r *specs.LinuxResources) (ss []setting, err error) {
	for _, h := range r.HugepageLimits {
		if err := checkPageSize(h.Pagesize); err != nil {
			return nil, err
		}
		ss = append(ss,
			setting{controller: "hugetlb", file: "hugetlb." + h.Pagesize + ".max", value: itoa(h.Limit)},
			setting{controller: "hugetlb", file: "hugetlb." + h.Pagesize + ".rsvd.max", value: itoa(h.Limit), optional: true})
	}
	for _, dev := range slices.Sorted(maps.Keys(r.Rdma)) {
		line, err := rdmaLine(dev, r.Rdma[dev])
		if err != nil {
			return nil, err
		}
		ss = append(ss, setting{controller: "rdma", file: "rdma.max", value: line})
	}
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		controller, _, dotted := strings.Cut(file, ".")
		if !dotted || controller == "" || strings.ContainsAny(file, "/\x00") {
			return nil, fmt.Errorf("unified resource %q is not a controller's file: %w", file, errdefs.ErrInvalidArgument)
		}
		ss = append(ss, setting{controller: controller, file: file, value: r.Unified[file]})
	}
	return ss, nil
}
