package cgroup

import (
	"strconv"
	"strings"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
)

// ticks is the length of a clock tick (USER_HZ is 100 on all architectures that
// Go has) in nanoseconds.
const ticks = 1e9 / 100

func (c *legacy) stats() (*Stats, error) {
	if !c.exists() {
		return nil, notFoundDir(c.main())
	}
	r := &statReader{dirOf: c.dirOf}
	m := &v1.Metrics{
		CPU:     cpuV1(r),
		Memory:  memoryV1(r),
		Blkio:   blkioV1(r),
		Hugetlb: hugetlbV1(r),
	}
	if r.has("pids", "pids.current") {
		m.Pids = &v1.PidsStat{Current: r.uint("pids", "pids.current"), Limit: pidsLimit(r.text("pids", "pids.max"))}
	}
	if oom := r.flat("memory", "memory.oom_control"); len(oom) > 0 {
		m.MemoryOomControl = &v1.MemoryOomControl{OomKillDisable: oom["oom_kill_disable"], UnderOom: oom["under_oom"], OomKill: oom["oom_kill"]}
	}
	if cur := r.text("rdma", "rdma.current"); cur != "" {
		m.Rdma = &v1.RdmaStat{Current: rdmaV1(cur), Limit: rdmaV1(r.text("rdma", "rdma.max"))}
	}
	return &Stats{V1: m}, r.err
}

// pidsLimit: 0 is no limit, as containerd has it.
func pidsLimit(s string) uint64 {
	n, _ := parseUint(s)
	if n == unlimited {
		return 0
	}
	return n
}

func cpuV1(r *statReader) *v1.CPUStat {
	u := &v1.CPUUsage{
		Total:  r.uint("cpuacct", "cpuacct.usage"),
		Kernel: r.uint("cpuacct", "cpuacct.usage_sys"),
		User:   r.uint("cpuacct", "cpuacct.usage_user"),
	}
	if !r.has("cpuacct", "cpuacct.usage_user") {
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
	t := r.flat("cpu", "cpu.stat")
	return &v1.CPUStat{
		Usage:      u,
		Throttling: &v1.Throttle{Periods: t["nr_periods"], ThrottledPeriods: t["nr_throttled"], ThrottledTime: t["throttled_time"]},
	}
}

func memoryV1(r *statReader) *v1.MemoryStat {
	if !r.has("memory", "memory.stat") {
		return nil
	}
	m := memoryStatV1(r.flat("memory", "memory.stat"))
	m.Usage = entryV1(r, "memory.")
	m.Swap = entryV1(r, "memory.memsw.")
	m.Kernel = entryV1(r, "memory.kmem.")
	m.KernelTCP = entryV1(r, "memory.kmem.tcp.")
	return m
}

func entryV1(r *statReader, prefix string) *v1.MemoryEntry {
	if !r.has("memory", prefix+"usage_in_bytes") {
		return nil
	}
	return &v1.MemoryEntry{
		Limit:   r.uint("memory", prefix+"limit_in_bytes"),
		Usage:   r.uint("memory", prefix+"usage_in_bytes"),
		Max:     r.uint("memory", prefix+"max_usage_in_bytes"),
		Failcnt: r.uint("memory", prefix+"failcnt"),
	}
}

func memoryStatV1(s map[string]uint64) *v1.MemoryStat {
	return &v1.MemoryStat{
		Cache: s["cache"], RSS: s["rss"], RSSHuge: s["rss_huge"], MappedFile: s["mapped_file"],
		Dirty: s["dirty"], Writeback: s["writeback"],
		PgPgIn: s["pgpgin"], PgPgOut: s["pgpgout"], PgFault: s["pgfault"], PgMajFault: s["pgmajfault"],
		InactiveAnon: s["inactive_anon"], ActiveAnon: s["active_anon"],
		InactiveFile: s["inactive_file"], ActiveFile: s["active_file"], Unevictable: s["unevictable"],
		HierarchicalMemoryLimit: s["hierarchical_memory_limit"], HierarchicalSwapLimit: s["hierarchical_memsw_limit"],
		TotalCache: s["total_cache"], TotalRSS: s["total_rss"], TotalRSSHuge: s["total_rss_huge"],
		TotalMappedFile: s["total_mapped_file"], TotalDirty: s["total_dirty"], TotalWriteback: s["total_writeback"],
		TotalPgPgIn: s["total_pgpgin"], TotalPgPgOut: s["total_pgpgout"],
		TotalPgFault: s["total_pgfault"], TotalPgMajFault: s["total_pgmajfault"],
		TotalInactiveAnon: s["total_inactive_anon"], TotalActiveAnon: s["total_active_anon"],
		TotalInactiveFile: s["total_inactive_file"], TotalActiveFile: s["total_active_file"],
		TotalUnevictable: s["total_unevictable"],
	}
}

// blkioV1 takes each counter from the scheduler that counts it: BFQ, else CFQ,
// else the throttling layer, which counts bytes and operations only.
func blkioV1(r *statReader) *v1.BlkIOStat {
	if _, ok := r.dirOf("blkio"); !ok {
		return nil
	}
	first := func(counter string) []*v1.BlkIOEntry {
		for _, by := range []string{"bfq.", "", "throttle."} {
			if es := blkioEntries(r.text("blkio", "blkio."+by+counter+"_recursive")); len(es) > 0 {
				return es
			}
		}
		return nil
	}
	return &v1.BlkIOStat{
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
func blkioEntries(s string) (es []*v1.BlkIOEntry) {
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
		e := &v1.BlkIOEntry{Major: major, Minor: minor, Value: n}
		if len(f) == 3 {
			e.Op = f[1]
		}
		es = append(es, e)
	}
	return es
}

func hugetlbV1(r *statReader) (hs []*v1.HugetlbStat) {
	for _, size := range r.pageSizes(".usage_in_bytes") {
		p := "hugetlb." + size + "."
		hs = append(hs, &v1.HugetlbStat{
			Pagesize: size,
			Usage:    r.uint("hugetlb", p+"usage_in_bytes"),
			Max:      r.uint("hugetlb", p+"max_usage_in_bytes"),
			Failcnt:  r.uint("hugetlb", p+"failcnt"),
		})
	}
	return hs
}

func rdmaV1(s string) (es []*v1.RdmaEntry) {
	for _, l := range nested(s) {
		es = append(es, &v1.RdmaEntry{Device: l.name, HcaHandles: clamp32(l.uint("hca_handle")), HcaObjects: clamp32(l.uint("hca_object"))})
	}
	return es
}

func clamp32(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }
