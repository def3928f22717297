package cgroup

import "reflect"

// Stats are a cgroup's counters; exactly one of the two is set, by the host's kind. What
// the host does not count is nil or zero. Bytes, if no unit is named; the value of no
// limit is the greatest one, unless a field says otherwise. Fields bear the names that
// containerd's messages have for them.
type Stats struct {
	V1 *StatsV1 // v1 and hybrid
	V2 *StatsV2
}

// StatsV1 are the counters of v1's controllers.
type StatsV1 struct {
	CPU              CPUV1
	Memory           *MemoryV1
	MemoryOomControl *OomControl
	Pids             *Pids
	Blkio            *BlkIO
	Hugetlb          []HugetlbV1
	Rdma             *Rdma
}

// StatsV2 are the counters of v2's controllers.
type StatsV2 struct {
	CPU          CPUV2
	Memory       *MemoryV2
	MemoryEvents *MemoryEvents
	Pids         *Pids
	Io           *IO
	Hugetlb      []HugetlbV2
	Rdma         *Rdma
}

// CPUV1 is time on CPUs, and time kept from them.
type CPUV1 struct {
	Usage struct { // nanoseconds
		Total, Kernel, User uint64
		PerCPU              []uint64
	}
	Throttling struct {
		Periods, ThrottledPeriods uint64
		ThrottledTime             uint64 // nanoseconds
	}
}

// CPUV2 is time on CPUs, and time kept from them.
type CPUV2 struct {
	UsageUsec, UserUsec, SystemUsec       uint64 // microseconds
	NrPeriods, NrThrottled, ThrottledUsec uint64
	NrBursts, BurstUsec                   uint64
	PSI                                   *PSI
}

// PSI is how long tasks waited for a resource: some of them, all of them.
type PSI struct{ Some, Full *PSIData }

// PSIData is in percent of the last so many seconds, and in microseconds since ever.
type PSIData struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// Pids are the tasks, threads with them. No limit is 0 with v1, and the largest number
// with v2, where it is what all files say.
type Pids struct{ Current, Limit uint64 }

// MemoryV1 is memory.stat, of which a field's tag is the kernel's name, and memory's limits.
type MemoryV1 struct {
	Cache                   uint64 `stat:"cache"`
	RSS                     uint64 `stat:"rss"`
	RSSHuge                 uint64 `stat:"rss_huge"`
	MappedFile              uint64 `stat:"mapped_file"`
	Dirty                   uint64 `stat:"dirty"`
	Writeback               uint64 `stat:"writeback"`
	PgPgIn                  uint64 `stat:"pgpgin"` // pages; so are the next three
	PgPgOut                 uint64 `stat:"pgpgout"`
	PgFault                 uint64 `stat:"pgfault"`
	PgMajFault              uint64 `stat:"pgmajfault"`
	InactiveAnon            uint64 `stat:"inactive_anon"`
	ActiveAnon              uint64 `stat:"active_anon"`
	InactiveFile            uint64 `stat:"inactive_file"`
	ActiveFile              uint64 `stat:"active_file"`
	Unevictable             uint64 `stat:"unevictable"`
	HierarchicalMemoryLimit uint64 `stat:"hierarchical_memory_limit"`
	HierarchicalSwapLimit   uint64 `stat:"hierarchical_memsw_limit"`
	// With the cgroups below.
	TotalCache        uint64 `stat:"total_cache"`
	TotalRSS          uint64 `stat:"total_rss"`
	TotalRSSHuge      uint64 `stat:"total_rss_huge"`
	TotalMappedFile   uint64 `stat:"total_mapped_file"`
	TotalDirty        uint64 `stat:"total_dirty"`
	TotalWriteback    uint64 `stat:"total_writeback"`
	TotalPgPgIn       uint64 `stat:"total_pgpgin"`
	TotalPgPgOut      uint64 `stat:"total_pgpgout"`
	TotalPgFault      uint64 `stat:"total_pgfault"`
	TotalPgMajFault   uint64 `stat:"total_pgmajfault"`
	TotalInactiveAnon uint64 `stat:"total_inactive_anon"`
	TotalActiveAnon   uint64 `stat:"total_active_anon"`
	TotalInactiveFile uint64 `stat:"total_inactive_file"`
	TotalActiveFile   uint64 `stat:"total_active_file"`
	TotalUnevictable  uint64 `stat:"total_unevictable"`

	Usage, Swap, Kernel, KernelTCP *MemoryEntry // Swap: memory and swap together
}

// MemoryEntry is one of v1's limits of memory; Failcnt is how often it was met.
type MemoryEntry struct{ Limit, Usage, Max, Failcnt uint64 }

// OomControl is memory.oom_control: two that are 0 or 1, and a count.
type OomControl struct{ OomKillDisable, UnderOom, OomKill uint64 }

// MemoryV2 is memory.stat, of which a field's tag is the kernel's name, and memory's limits.
type MemoryV2 struct {
	Anon              uint64 `stat:"anon"`
	File              uint64 `stat:"file"`
	KernelStack       uint64 `stat:"kernel_stack"`
	Slab              uint64 `stat:"slab"`
	Sock              uint64 `stat:"sock"`
	Shmem             uint64 `stat:"shmem"`
	FileMapped        uint64 `stat:"file_mapped"`
	FileDirty         uint64 `stat:"file_dirty"`
	FileWriteback     uint64 `stat:"file_writeback"`
	AnonThp           uint64 `stat:"anon_thp"`
	InactiveAnon      uint64 `stat:"inactive_anon"`
	ActiveAnon        uint64 `stat:"active_anon"`
	InactiveFile      uint64 `stat:"inactive_file"`
	ActiveFile        uint64 `stat:"active_file"`
	Unevictable       uint64 `stat:"unevictable"`
	SlabReclaimable   uint64 `stat:"slab_reclaimable"`
	SlabUnreclaimable uint64 `stat:"slab_unreclaimable"`
	// Events, most of them of one page.
	Pgfault               uint64 `stat:"pgfault"`
	Pgmajfault            uint64 `stat:"pgmajfault"`
	WorkingsetRefault     uint64 `stat:"workingset_refault"`
	WorkingsetActivate    uint64 `stat:"workingset_activate"`
	WorkingsetNodereclaim uint64 `stat:"workingset_nodereclaim"`
	Pgrefill              uint64 `stat:"pgrefill"`
	Pgscan                uint64 `stat:"pgscan"`
	Pgsteal               uint64 `stat:"pgsteal"`
	Pgactivate            uint64 `stat:"pgactivate"`
	Pgdeactivate          uint64 `stat:"pgdeactivate"`
	Pglazyfree            uint64 `stat:"pglazyfree"`
	Pglazyfreed           uint64 `stat:"pglazyfreed"`
	ThpFaultAlloc         uint64 `stat:"thp_fault_alloc"`
	ThpCollapseAlloc      uint64 `stat:"thp_collapse_alloc"`

	Usage, UsageLimit, MaxUsage        uint64
	SwapUsage, SwapLimit, SwapMaxUsage uint64 // swap alone
	PSI                                *PSI
}

// MemoryEvents is memory.events: how often each came about.
type MemoryEvents struct{ Low, High, Max, Oom, OomKill, OomGroupKill uint64 }

// BlkIO is v1's input and output by device and operation: bytes, operations, times in
// nanoseconds (IoTime: milliseconds), sectors.
type BlkIO struct {
	IoServiceBytesRecursive, IoServicedRecursive, IoQueuedRecursive []BlkIOEntry
	IoServiceTimeRecursive, IoWaitTimeRecursive                     []BlkIOEntry
	IoMergedRecursive, IoTimeRecursive, SectorsRecursive            []BlkIOEntry
}

// BlkIOEntry is a device's counter.
type BlkIOEntry struct {
	Op           string // "Read", "Write", …, empty where all are one
	Major, Minor uint64
	Value        uint64
}

// IO is v2's input and output by device.
type IO struct {
	Usage []IOEntry
	PSI   *PSI
}

// IOEntry is a device's bytes and operations.
type IOEntry struct{ Major, Minor, Rbytes, Wbytes, Rios, Wios uint64 }

// HugetlbV1 is the use of huge pages of one size; Failcnt is how often the limit was met.
type HugetlbV1 struct {
	Pagesize            string // "2MB"
	Usage, Max, Failcnt uint64 // Max: the greatest use
}

// HugetlbV2 is the use of huge pages of one size; Failcnt is how often the limit was met.
type HugetlbV2 struct {
	Pagesize              string // "2MB"
	Current, Max, Failcnt uint64 // Max: the limit
}

// Rdma are the use and limits of RDMA devices.
type Rdma struct{ Current, Limit []RdmaEntry }

// RdmaEntry counts a device's handles and objects.
type RdmaEntry struct {
	Device                 string
	HcaHandles, HcaObjects uint32
}

// Raw are the fields of memory.stat by the kernel's names.
func (m *MemoryV1) Raw() map[string]uint64 { return raw(m) }

// Raw are the fields of memory.stat by the kernel's names.
func (m *MemoryV2) Raw() map[string]uint64 { return raw(m) }

func raw(memory any) map[string]uint64 {
	all := map[string]uint64{}
	eachStat(memory, func(name string, field reflect.Value) { all[name] = field.Uint() })
	return all
}

// setStats fills the fields that are in memory.stat.
func setStats(memory any, stat map[string]uint64) {
	eachStat(memory, func(name string, field reflect.Value) { field.SetUint(stat[name]) })
}

func eachStat(memory any, do func(name string, field reflect.Value)) {
	v := reflect.ValueOf(memory).Elem()
	for i := range v.NumField() {
		if name, ok := v.Type().Field(i).Tag.Lookup("stat"); ok {
			do(name, v.Field(i))
		}
	}
}
