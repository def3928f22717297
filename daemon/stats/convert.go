// Package stats turns a task's counters into Docker's StatsResponse and samples each
// container once a second for all who look at it.
package stats

import (
	"fmt"

	statsv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	statsv2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"
)

// Convert fills a response from io.containerd.cgroups.v1.Metrics or v2. memoryTotal is
// the machine's, in bytes, and bounds the limit shown; 0 does not.
func Convert(metrics any, memoryTotal uint64) (*containertypes.StatsResponse, error) {
	var r *containertypes.StatsResponse
	switch m := metrics.(type) {
	case *statsv1.Metrics:
		r = fromV1(m)
	case *statsv2.Metrics:
		r = fromV2(m)
	default:
		return nil, fmt.Errorf("unexpected type of metrics %T", metrics)
	}
	if memoryTotal > 0 && r.MemoryStats.Limit > memoryTotal {
		r.MemoryStats.Limit = memoryTotal
	}
	return r, nil
}

func fromV1(m *statsv1.Metrics) *containertypes.StatsResponse {
	r := &containertypes.StatsResponse{}
	if b := m.GetBlkio(); b != nil {
		r.BlkioStats = containertypes.BlkioStats{
			IoServiceBytesRecursive: entries(b.IoServiceBytesRecursive),
			IoServicedRecursive:     entries(b.IoServicedRecursive),
			IoQueuedRecursive:       entries(b.IoQueuedRecursive),
			IoServiceTimeRecursive:  entries(b.IoServiceTimeRecursive),
			IoWaitTimeRecursive:     entries(b.IoWaitTimeRecursive),
			IoMergedRecursive:       entries(b.IoMergedRecursive),
			IoTimeRecursive:         entries(b.IoTimeRecursive),
			SectorsRecursive:        entries(b.SectorsRecursive),
		}
	}
	if c := m.GetCPU(); c != nil {
		r.CPUStats.CPUUsage = containertypes.CPUUsage{
			TotalUsage: c.GetUsage().GetTotal(), PercpuUsage: c.GetUsage().GetPerCPU(),
			UsageInKernelmode: c.GetUsage().GetKernel(), UsageInUsermode: c.GetUsage().GetUser(),
		}
		r.CPUStats.ThrottlingData = containertypes.ThrottlingData{
			Periods: c.GetThrottling().GetPeriods(), ThrottledPeriods: c.GetThrottling().GetThrottledPeriods(),
			ThrottledTime: c.GetThrottling().GetThrottledTime(),
		}
	}
	if mem := m.GetMemory(); mem != nil {
		r.MemoryStats = memoryV1(mem)
	}
	r.PidsStats = containertypes.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	return r
}

func entries(in []*statsv1.BlkIOEntry) []containertypes.BlkioStatEntry {
	out := make([]containertypes.BlkioStatEntry, len(in))
	for i, e := range in {
		out[i] = containertypes.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value}
	}
	return out
}

func memoryV1(m *statsv1.MemoryStat) containertypes.MemoryStats {
	s := containertypes.MemoryStats{Stats: map[string]uint64{
		"cache": m.Cache, "rss": m.RSS, "rss_huge": m.RSSHuge, "mapped_file": m.MappedFile,
		"dirty": m.Dirty, "writeback": m.Writeback, "pgpgin": m.PgPgIn, "pgpgout": m.PgPgOut,
		"pgfault": m.PgFault, "pgmajfault": m.PgMajFault, "inactive_anon": m.InactiveAnon,
		"active_anon": m.ActiveAnon, "inactive_file": m.InactiveFile, "active_file": m.ActiveFile,
		"unevictable": m.Unevictable, "hierarchical_memory_limit": m.HierarchicalMemoryLimit,
		"hierarchical_memsw_limit": m.HierarchicalSwapLimit, "total_cache": m.TotalCache,
		"total_rss": m.TotalRSS, "total_rss_huge": m.TotalRSSHuge, "total_mapped_file": m.TotalMappedFile,
		"total_dirty": m.TotalDirty, "total_writeback": m.TotalWriteback, "total_pgpgin": m.TotalPgPgIn,
		"total_pgpgout": m.TotalPgPgOut, "total_pgfault": m.TotalPgFault, "total_pgmajfault": m.TotalPgMajFault,
		"total_inactive_anon": m.TotalInactiveAnon, "total_active_anon": m.TotalActiveAnon,
		"total_inactive_file": m.TotalInactiveFile, "total_active_file": m.TotalActiveFile,
		"total_unevictable": m.TotalUnevictable,
	}}
	if u := m.Usage; u != nil {
		s.Usage, s.MaxUsage, s.Limit, s.Failcnt = u.Usage, u.Max, u.Limit, u.Failcnt
	}
	return s
}

func fromV2(m *statsv2.Metrics) *containertypes.StatsResponse {
	r := &containertypes.StatsResponse{}
	for _, u := range m.GetIo().GetUsage() {
		r.BlkioStats.IoServiceBytesRecursive = append(r.BlkioStats.IoServiceBytesRecursive,
			containertypes.BlkioStatEntry{Major: u.Major, Minor: u.Minor, Op: "read", Value: u.Rbytes},
			containertypes.BlkioStatEntry{Major: u.Major, Minor: u.Minor, Op: "write", Value: u.Wbytes})
	}
	if c := m.GetCPU(); c != nil { // microseconds here, nanoseconds there
		r.CPUStats.CPUUsage = containertypes.CPUUsage{
			TotalUsage: c.UsageUsec * 1000, UsageInKernelmode: c.SystemUsec * 1000, UsageInUsermode: c.UserUsec * 1000,
		}
		r.CPUStats.ThrottlingData = containertypes.ThrottlingData{
			Periods: c.NrPeriods, ThrottledPeriods: c.NrThrottled, ThrottledTime: c.ThrottledUsec * 1000,
		}
	}
	if mem := m.GetMemory(); mem != nil {
		r.MemoryStats = memoryV2(mem)
		r.MemoryStats.Failcnt = m.GetMemoryEvents().GetOom()
	}
	r.PidsStats = containertypes.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	return r
}

func memoryV2(m *statsv2.MemoryStat) containertypes.MemoryStats {
	return containertypes.MemoryStats{Usage: m.Usage, Limit: m.UsageLimit, Stats: map[string]uint64{
		"anon": m.Anon, "file": m.File, "kernel_stack": m.KernelStack, "slab": m.Slab, "sock": m.Sock,
		"shmem": m.Shmem, "file_mapped": m.FileMapped, "file_dirty": m.FileDirty,
		"file_writeback": m.FileWriteback, "anon_thp": m.AnonThp, "inactive_anon": m.InactiveAnon,
		"active_anon": m.ActiveAnon, "inactive_file": m.InactiveFile, "active_file": m.ActiveFile,
		"unevictable": m.Unevictable, "slab_reclaimable": m.SlabReclaimable,
		"slab_unreclaimable": m.SlabUnreclaimable, "pgfault": m.Pgfault, "pgmajfault": m.Pgmajfault,
		"workingset_refault": m.WorkingsetRefault, "workingset_activate": m.WorkingsetActivate,
		"workingset_nodereclaim": m.WorkingsetNodereclaim, "pgrefill": m.Pgrefill, "pgscan": m.Pgscan,
		"pgsteal": m.Pgsteal, "pgactivate": m.Pgactivate, "pgdeactivate": m.Pgdeactivate,
		"pglazyfree": m.Pglazyfree, "pglazyfreed": m.Pglazyfreed, "thp_fault_alloc": m.ThpFaultAlloc,
		"thp_collapse_alloc": m.ThpCollapseAlloc,
	}}
}

// OOMKilled says whether the counters tell of a process killed for lack of memory.
func OOMKilled(metrics typeurl.Any) bool {
	v, err := typeurl.UnmarshalAny(metrics)
	if err != nil {
		return false
	}
	switch m := v.(type) {
	case *statsv1.Metrics:
		return m.GetMemoryOomControl().GetOomKill() > 0
	case *statsv2.Metrics:
		return m.GetMemoryEvents().GetOomKill() > 0
	}
	return false
}
