package cgroup

import (
	"fmt"
	"strconv"

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
	m := &StatsV2{
		CPU:     cpuV2(r),
		Memory:  memoryV2(r),
		Io:      ioV2(r),
		Hugetlb: hugetlbV2(r),
	}
	if r.has("pids", "pids.current") {
		m.Pids = &Pids{Current: r.uint("pids", "pids.current"), Limit: r.uint("pids", "pids.max")}
	}
	if e := r.flat("memory", "memory.events"); len(e) > 0 {
		m.MemoryEvents = &MemoryEvents{Low: e["low"], High: e["high"], Max: e["max"], Oom: e["oom"], OomKill: e["oom_kill"], OomGroupKill: e["oom_group_kill"]}
	}
	if cur := r.text("rdma", "rdma.current"); cur != "" {
		m.Rdma = &Rdma{Current: rdmaEntries(cur), Limit: rdmaEntries(r.text("rdma", "rdma.max"))}
	}
	return &Stats{V2: m}, r.err
}

func cpuV2(r *statReader) CPUV2 {
	s := r.flat("cpu", "cpu.stat")
	return CPUV2{
		UsageUsec: s["usage_usec"], UserUsec: s["user_usec"], SystemUsec: s["system_usec"],
		NrPeriods: s["nr_periods"], NrThrottled: s["nr_throttled"], ThrottledUsec: s["throttled_usec"],
		NrBursts: s["nr_bursts"], BurstUsec: s["burst_usec"],
		PSI: pressure(r.text("cpu", "cpu.pressure")),
	}
}

func memoryV2(r *statReader) *MemoryV2 {
	if !r.has("memory", "memory.stat") {
		return nil
	}
	stat := r.flat("memory", "memory.stat")
	m := &MemoryV2{}
	setStats(m, stat)
	// Split by kind since Linux 5.9.
	m.WorkingsetRefault += stat["workingset_refault_anon"] + stat["workingset_refault_file"]
	m.WorkingsetActivate += stat["workingset_activate_anon"] + stat["workingset_activate_file"]
	m.Usage, m.UsageLimit = r.uint("memory", "memory.current"), r.uint("memory", "memory.max")
	m.SwapUsage, m.SwapLimit = r.uint("memory", "memory.swap.current"), r.uint("memory", "memory.swap.max")
	m.MaxUsage, m.SwapMaxUsage = r.uint("memory", "memory.peak"), r.uint("memory", "memory.swap.peak")
	m.PSI = pressure(r.text("memory", "memory.pressure"))
	return m
}

// pressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full …";
// nil where the kernel does not keep it.
func pressure(s string) *PSI {
	lines := nested(s)
	if len(lines) == 0 {
		return nil
	}
	p := &PSI{}
	for _, l := range lines {
		f := func(key string) float64 {
			n, _ := strconv.ParseFloat(l.vals[key], 64)
			return n
		}
		d := &PSIData{Avg10: f("avg10"), Avg60: f("avg60"), Avg300: f("avg300"), Total: l.uint("total")}
		switch l.name {
		case "some":
			p.Some = d
		case "full":
			p.Full = d
		}
	}
	return p
}

func ioV2(r *statReader) *IO {
	st := &IO{PSI: pressure(r.text("io", "io.pressure")), Usage: ioEntries(r.text("io", "io.stat"))}
	if st.PSI == nil && st.Usage == nil {
		return nil
	}
	return st
}

// ioEntries reads lines of "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func ioEntries(s string) (es []IOEntry) {
	for _, l := range nested(s) {
		major, minor, ok := numbers(l.name)
		if !ok {
			continue
		}
		es = append(es, IOEntry{
			Major: major, Minor: minor,
			Rbytes: l.uint("rbytes"), Wbytes: l.uint("wbytes"), Rios: l.uint("rios"), Wios: l.uint("wios"),
		})
	}
	return es
}

func hugetlbV2(r *statReader) (hs []HugetlbV2) {
	for _, size := range r.pageSizes(".current") {
		p := "hugetlb." + size + "."
		hs = append(hs, HugetlbV2{
			Pagesize: size,
			Current:  r.uint("hugetlb", p+"current"),
			Max:      r.uint("hugetlb", p+"max"),
			Failcnt:  r.flat("hugetlb", p+"events")["max"],
		})
	}
	return hs
}
