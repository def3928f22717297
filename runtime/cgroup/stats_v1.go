package cgroup

import (
	"strconv"
	"strings"
)

// ticks is the length of a clock tick (USER_HZ is 100 on all architectures that
// Go has) in nanoseconds.
const ticks = 1e9 / 100

func (c *legacy) stats() (*Stats, error) {
	if !c.exists() {
		return nil, notFoundDir(c.main())
	}
	r := &statReader{dirOf: c.dirOf}
	m := &StatsV1{
		CPU:     cpuV1(r),
		Memory:  memoryV1(r),
		Blkio:   blkioV1(r),
		Hugetlb: hugetlbV1(r),
	}
	if r.has("pids", "pids.current") {
		m.Pids = &Pids{Current: r.uint("pids", "pids.current"), Limit: pidsLimit(r.text("pids", "pids.max"))}
	}
	if oom := r.flat("memory", "memory.oom_control"); len(oom) > 0 {
		m.MemoryOomControl = &OomControl{OomKillDisable: oom["oom_kill_disable"], UnderOom: oom["under_oom"], OomKill: oom["oom_kill"]}
	}
	if cur := r.text("rdma", "rdma.current"); cur != "" {
		m.Rdma = &Rdma{Current: rdmaEntries(cur), Limit: rdmaEntries(r.text("rdma", "rdma.max"))}
	}
	return &Stats{V1: m}, r.err
}

// pidsLimit: 0 is no limit, as containerd has it with v1.
func pidsLimit(s string) uint64 {
	n, _ := parseUint(s)
	if n == unlimited {
		return 0
	}
	return n
}

func cpuV1(r *statReader) (c CPUV1) {
	u, t := &c.Usage, &c.Throttling
	u.Total = r.uint("cpuacct", "cpuacct.usage")
	if r.has("cpuacct", "cpuacct.usage_user") {
		u.Kernel, u.User = r.uint("cpuacct", "cpuacct.usage_sys"), r.uint("cpuacct", "cpuacct.usage_user")
	} else {
		stat := r.flat("cpuacct", "cpuacct.stat")
		u.Kernel, u.User = stat["system"]*ticks, stat["user"]*ticks
	}
	for f := range strings.FieldsSeq(r.text("cpuacct", "cpuacct.usage_percpu")) {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			break
		}
		u.PerCPU = append(u.PerCPU, n)
	}
	stat := r.flat("cpu", "cpu.stat")
	t.Periods, t.ThrottledPeriods, t.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"]
	return c
}

func memoryV1(r *statReader) *MemoryV1 {
	if !r.has("memory", "memory.stat") {
		return nil
	}
	m := &MemoryV1{}
	setStats(m, r.flat("memory", "memory.stat"))
	m.Usage = entryV1(r, "memory.")
	m.Swap = entryV1(r, "memory.memsw.")
	m.Kernel = entryV1(r, "memory.kmem.")
	m.KernelTCP = entryV1(r, "memory.kmem.tcp.")
	return m
}

func entryV1(r *statReader, prefix string) *MemoryEntry {
	if !r.has("memory", prefix+"usage_in_bytes") {
		return nil
	}
	return &MemoryEntry{
		Limit:   r.uint("memory", prefix+"limit_in_bytes"),
		Usage:   r.uint("memory", prefix+"usage_in_bytes"),
		Max:     r.uint("memory", prefix+"max_usage_in_bytes"),
		Failcnt: r.uint("memory", prefix+"failcnt"),
	}
}

// blkioV1 takes each counter from the scheduler that counts it: BFQ, else CFQ,
// else the throttling layer, which counts bytes and operations only.
func blkioV1(r *statReader) *BlkIO {
	if _, ok := r.dirOf("blkio"); !ok {
		return nil
	}
	first := func(counter string) []BlkIOEntry {
		for _, by := range []string{"bfq.", "", "throttle."} {
			if es := blkioEntries(r.rare("blkio", "blkio."+by+counter+"_recursive")); len(es) > 0 {
				return es
			}
		}
		return nil
	}
	return &BlkIO{
		IoServiceBytesRecursive: first("io_service_bytes"),
		IoServicedRecursive:     first("io_serviced"),
		IoQueuedRecursive:       first("io_queued"),
		IoServiceTimeRecursive:  first("io_service_time"),
		IoWaitTimeRecursive:     first("io_wait_time"),
		IoMergedRecursive:       first("io_merged"),
		IoTimeRecursive:         first("time"),
		SectorsRecursive:        first("sectors"),
	}
}

// blkioEntries reads lines of "8:0 Read 4096" or "8:0 4096"; the last line,
// "Total 4096", is passed over.
func blkioEntries(s string) (es []BlkIOEntry) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) != 2 && len(f) != 3 {
			continue
		}
		major, minor, ok := numbers(f[0])
		n, err := strconv.ParseUint(f[len(f)-1], 10, 64)
		if !ok || err != nil {
			continue
		}
		e := BlkIOEntry{Major: major, Minor: minor, Value: n}
		if len(f) == 3 {
			e.Op = f[1]
		}
		es = append(es, e)
	}
	return es
}

func hugetlbV1(r *statReader) (hs []HugetlbV1) {
	for _, size := range r.pageSizes(".usage_in_bytes") {
		p := "hugetlb." + size + "."
		hs = append(hs, HugetlbV1{
			Pagesize: size,
			Usage:    r.uint("hugetlb", p+"usage_in_bytes"),
			Max:      r.uint("hugetlb", p+"max_usage_in_bytes"),
			Failcnt:  r.uint("hugetlb", p+"failcnt"),
		})
	}
	return hs
}
