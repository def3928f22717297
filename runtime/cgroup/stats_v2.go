package cgroup

import (
	"fmt"
	"strconv"

	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/errdefs"
)

func notFoundDir(path string) error {
	return fmt.Errorf("cgroup %s: %w: %w", path, errNoDir, errdefs.ErrNotFound)
}

func (c *unified) stats() (*Stats, error) {
	if !c.exists() {
		return nil, notFoundDir(c.path)
	}
	r := &statReader{dirOf: c.dirOf}
	m := &v2.Metrics{
		CPU:     cpuV2(r),
		Memory:  memoryV2(r),
		Io:      ioV2(r),
		Hugetlb: hugetlbV2(r),
	}
	if r.has("pids", "pids.current") {
		m.Pids = &v2.PidsStat{Current: r.uint("pids", "pids.current"), Limit: pidsLimit(r.text("pids", "pids.max"))}
	}
	if e := r.flat("memory", "memory.events"); len(e) > 0 {
		m.MemoryEvents = &v2.MemoryEvents{Low: e["low"], High: e["high"], Max: e["max"], Oom: e["oom"], OomKill: e["oom_kill"], OomGroupKill: e["oom_group_kill"]}
	}
	if cur := r.text("rdma", "rdma.current"); cur != "" {
		m.Rdma = &v2.RdmaStat{Current: rdmaV2(cur), Limit: rdmaV2(r.text("rdma", "rdma.max"))}
	}
	return &Stats{V2: m}, r.err
}

func cpuV2(r *statReader) *v2.CPUStat {
	s := r.flat("cpu", "cpu.stat")
	return &v2.CPUStat{
		UsageUsec: s["usage_usec"], UserUsec: s["user_usec"], SystemUsec: s["system_usec"],
		NrPeriods: s["nr_periods"], NrThrottled: s["nr_throttled"], ThrottledUsec: s["throttled_usec"],
		NrBursts: s["nr_bursts"], BurstUsec: s["burst_usec"],
		PSI: pressure(r.text("cpu", "cpu.pressure")),
	}
}

func memoryV2(r *statReader) *v2.MemoryStat {
	if !r.has("memory", "memory.stat") {
		return nil
	}
	m := memoryStatV2(r.flat("memory", "memory.stat"))
	m.Usage, m.UsageLimit = r.uint("memory", "memory.current"), r.uint("memory", "memory.max")
	m.SwapUsage, m.SwapLimit = r.uint("memory", "memory.swap.current"), r.uint("memory", "memory.swap.max")
	m.MaxUsage, m.SwapMaxUsage = r.uint("memory", "memory.peak"), r.uint("memory", "memory.swap.peak")
	m.PSI = pressure(r.text("memory", "memory.pressure"))
	return m
}

func memoryStatV2(s map[string]uint64) *v2.MemoryStat {
	return &v2.MemoryStat{
		Anon: s["anon"], File: s["file"], KernelStack: s["kernel_stack"], Slab: s["slab"], Sock: s["sock"], Shmem: s["shmem"],
		FileMapped: s["file_mapped"], FileDirty: s["file_dirty"], FileWriteback: s["file_writeback"], AnonThp: s["anon_thp"],
		InactiveAnon: s["inactive_anon"], ActiveAnon: s["active_anon"],
		InactiveFile: s["inactive_file"], ActiveFile: s["active_file"], Unevictable: s["unevictable"],
		SlabReclaimable: s["slab_reclaimable"], SlabUnreclaimable: s["slab_unreclaimable"],
		Pgfault: s["pgfault"], Pgmajfault: s["pgmajfault"],
		// Split by kind since Linux 5.9.
		WorkingsetRefault:     s["workingset_refault"] + s["workingset_refault_anon"] + s["workingset_refault_file"],
		WorkingsetActivate:    s["workingset_activate"] + s["workingset_activate_anon"] + s["workingset_activate_file"],
		WorkingsetNodereclaim: s["workingset_nodereclaim"],
		Pgrefill:              s["pgrefill"], Pgscan: s["pgscan"], Pgsteal: s["pgsteal"],
		Pgactivate: s["pgactivate"], Pgdeactivate: s["pgdeactivate"], Pglazyfree: s["pglazyfree"], Pglazyfreed: s["pglazyfreed"],
		ThpFaultAlloc: s["thp_fault_alloc"], ThpCollapseAlloc: s["thp_collapse_alloc"],
	}
}

// pressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full …";
// nil where the kernel does not keep it.
func pressure(s string) *v2.PSIStats {
	lines := nested(s)
	if len(lines) == 0 {
		return nil
	}
	p := &v2.PSIStats{}
	for _, l := range lines {
		f := func(key string) float64 {
			n, _ := strconv.ParseFloat(l.vals[key], 64)
			return n
		}
		d := &v2.PSIData{Avg10: f("avg10"), Avg60: f("avg60"), Avg300: f("avg300"), Total: l.uint("total")}
		switch l.name {
		case "some":
			p.Some = d
		case "full":
			p.Full = d
		}
	}
	return p
}

func ioV2(r *statReader) *v2.IOStat {
	st := &v2.IOStat{PSI: pressure(r.text("io", "io.pressure")), Usage: ioEntries(r.text("io", "io.stat"))}
	if st.PSI == nil && st.Usage == nil {
		return nil
	}
	return st
}

// ioEntries reads lines of "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func ioEntries(s string) (es []*v2.IOEntry) {
	for _, l := range nested(s) {
		major, minor, ok := numbers(l.name)
		if !ok {
			continue
		}
		es = append(es, &v2.IOEntry{
			Major: major, Minor: minor,
			Rbytes: l.uint("rbytes"), Wbytes: l.uint("wbytes"), Rios: l.uint("rios"), Wios: l.uint("wios"),
		})
	}
	return es
}

func hugetlbV2(r *statReader) (hs []*v2.HugeTlbStat) {
	for _, size := range r.pageSizes(".current") {
		p := "hugetlb." + size + "."
		hs = append(hs, &v2.HugeTlbStat{
			Pagesize: size,
			Current:  r.uint("hugetlb", p+"current"),
			Max:      r.uint("hugetlb", p+"max"),
			Failcnt:  r.flat("hugetlb", p+"events")["max"],
		})
	}
	return hs
}

func rdmaV2(s string) (es []*v2.RdmaEntry) {
	for _, l := range nested(s) {
		es = append(es, &v2.RdmaEntry{Device: l.name, HcaHandles: clamp32(l.uint("hca_handle")), HcaObjects: clamp32(l.uint("hca_object"))})
	}
	return es
}
