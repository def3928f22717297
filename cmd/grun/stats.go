package main

import (
	"os"

	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
)

// stats are the data of a "stats" event in runc's shape, less what is never there:
// cpuset, whose fields repeat settings, Intel RDT and network interfaces.
type stats struct {
	CPU      cpuStats                `json:"cpu"`
	Memory   memoryStats             `json:"memory"`
	Pids     pidsStats               `json:"pids"`
	Blkio    blkioStats              `json:"blkio"`
	Hugetlb  map[string]hugetlbStats `json:"hugetlb"` // by page size
	IntelRdt struct{}                `json:"intel_rdt"`
	Network  []struct{}              `json:"network_interfaces"`
}

type cpuStats struct {
	Usage struct { // nanoseconds
		Total  uint64   `json:"total,omitempty"`
		Percpu []uint64 `json:"percpu,omitempty"`
		Kernel uint64   `json:"kernel"`
		User   uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods,omitempty"`
		ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
		ThrottledTime    uint64 `json:"throttledTime,omitempty"` // nanoseconds
	} `json:"throttling"`
	PSI *pressure `json:"psi,omitempty"`
}

// pressure is how long tasks waited for a resource.
type pressure struct {
	Some waits `json:"some"`
	Full waits `json:"full"`
}

type waits struct {
	Avg10  float64 `json:"avg10"` // percent
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"` // microseconds
}

type hugetlbStats struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// memoryEntry is in bytes.
type memoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

type memoryStats struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     memoryEntry       `json:"usage"`
	Swap      memoryEntry       `json:"swap"` // memory and swap together
	Kernel    memoryEntry       `json:"kernel"`
	KernelTCP memoryEntry       `json:"kernelTCP"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *pressure         `json:"psi,omitempty"`
}

type pidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

type blkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

type blkioStats struct {
	Bytes       []blkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	Ops         []blkioEntry `json:"ioServicedRecursive,omitempty"`
	Queued      []blkioEntry `json:"ioQueueRecursive,omitempty"`
	ServiceTime []blkioEntry `json:"ioServiceTimeRecursive,omitempty"`
	WaitTime    []blkioEntry `json:"ioWaitTimeRecursive,omitempty"`
	Merged      []blkioEntry `json:"ioMergedRecursive,omitempty"`
	Time        []blkioEntry `json:"ioTimeRecursive,omitempty"`
	Sectors     []blkioEntry `json:"sectorsRecursive,omitempty"`
	PSI         *pressure    `json:"psi,omitempty"`
}

func statsOf(s *cgroup.Stats) stats {
	out := stats{Hugetlb: map[string]hugetlbStats{}}
	if s.V2 != nil {
		out.fillV2(s.V2)
	} else {
		out.fillV1(s.V1)
	}
	return out
}

func (s *stats) fillV1(m *cgroup.StatsV1) {
	u, t := m.CPU.Usage, m.CPU.Throttling
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User, s.CPU.Usage.Percpu = u.Total, u.Kernel, u.User, u.PerCPU
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = t.Periods, t.ThrottledPeriods, t.ThrottledTime
	if mem := m.Memory; mem != nil {
		s.Memory = memoryStats{
			Cache: mem.Cache, Usage: entryV1(mem.Usage), Swap: entryV1(mem.Swap),
			Kernel: entryV1(mem.Kernel), KernelTCP: entryV1(mem.KernelTCP),
			Raw: mem.Raw(),
		}
	}
	s.Pids = pidsStats(orZero(m.Pids))
	io := orZero(m.Blkio)
	s.Blkio = blkioStats{
		Bytes: entriesV1(io.IoServiceBytesRecursive), Ops: entriesV1(io.IoServicedRecursive),
		Queued: entriesV1(io.IoQueuedRecursive), ServiceTime: entriesV1(io.IoServiceTimeRecursive),
		WaitTime: entriesV1(io.IoWaitTimeRecursive), Merged: entriesV1(io.IoMergedRecursive),
		Time: entriesV1(io.IoTimeRecursive), Sectors: entriesV1(io.SectorsRecursive),
	}
	for _, h := range m.Hugetlb {
		s.Hugetlb[h.Pagesize] = hugetlbStats{Usage: h.Usage, Max: h.Max, Failcnt: h.Failcnt}
	}
}

// orZero gives zeros for what is not counted.
func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func entryV1(e *cgroup.MemoryEntry) memoryEntry { return memoryEntry(orZero(e)) }

func entriesV1(list []cgroup.BlkIOEntry) (out []blkioEntry) {
	for _, e := range list {
		out = append(out, blkioEntry{e.Major, e.Minor, e.Op, e.Value})
	}
	return out
}

func (s *stats) fillV2(m *cgroup.StatsV2) {
	const micro = 1000
	u := m.CPU
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User = u.UsageUsec*micro, u.SystemUsec*micro, u.UserUsec*micro
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = u.NrPeriods, u.NrThrottled, u.ThrottledUsec*micro
	if mem := m.Memory; mem != nil {
		s.Memory = memoryStats{
			Cache: mem.File,
			Usage: memoryEntry{Limit: mem.UsageLimit, Usage: mem.Usage, Max: mem.MaxUsage},
			Swap:  memoryEntry{Limit: sum(mem.UsageLimit, mem.SwapLimit), Usage: mem.Usage + mem.SwapUsage},
			Raw:   mem.Raw(), PSI: pressureOf(mem.PSI),
		}
	}
	s.Memory.Usage.Failcnt = orZero(m.MemoryEvents).Max
	io := orZero(m.Io)
	s.CPU.PSI, s.Blkio.PSI = pressureOf(u.PSI), pressureOf(io.PSI)
	if s.Pids = pidsStats(orZero(m.Pids)); s.Pids.Limit == ^uint64(0) {
		s.Pids.Limit = 0 // as runc tells that there is none
	}
	for _, e := range io.Usage {
		s.Blkio.Bytes = append(s.Blkio.Bytes, blkioEntry{e.Major, e.Minor, "Read", e.Rbytes}, blkioEntry{e.Major, e.Minor, "Write", e.Wbytes})
		s.Blkio.Ops = append(s.Blkio.Ops, blkioEntry{e.Major, e.Minor, "Read", e.Rios}, blkioEntry{e.Major, e.Minor, "Write", e.Wios})
	}
	for _, h := range m.Hugetlb {
		s.Hugetlb[h.Pagesize] = hugetlbStats{Usage: h.Current, Failcnt: h.Failcnt}
	}
}

// sum is the limit of two together, where all bits are no limit.
func sum(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

func pressureOf(p *cgroup.PSI) *pressure {
	if p == nil {
		return nil
	}
	return &pressure{waits(orZero(p.Some)), waits(orZero(p.Full))}
}

// awaitEnd blocks until the process has ended; nil is one that has.
func awaitEnd(pidfd *os.File) {
	if pidfd == nil {
		return
	}
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}
