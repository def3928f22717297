package main

import (
	"os"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
)

// stats are the data of a "stats" event in runc's shape.
type stats struct {
	CPU     cpuStats               `json:"cpu"`
	Memory  memoryStats            `json:"memory"`
	Pids    pidsStats              `json:"pids"`
	Blkio   blkioStats             `json:"blkio"`
	Hugetlb map[string]memoryEntry `json:"hugetlb"` // by page size
}

type cpuStats struct {
	Usage struct { // nanoseconds
		Total  uint64   `json:"total"`
		Percpu []uint64 `json:"percpu,omitempty"`
		Kernel uint64   `json:"kernel"`
		User   uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods"`
		ThrottledPeriods uint64 `json:"throttledPeriods"`
		ThrottledTime    uint64 `json:"throttledTime"` // nanoseconds
	} `json:"throttling"`
}

// memoryEntry is in bytes.
type memoryEntry struct {
	Limit   uint64 `json:"limit,omitempty"`
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
	Bytes []blkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	Ops   []blkioEntry `json:"ioServicedRecursive,omitempty"`
}

func statsOf(s *cgroup.Stats) stats {
	if s.V2 != nil {
		return statsV2(s.V2)
	}
	return statsV1(s.V1)
}

// The getters of messages are those of protobuf: nil gives zeros.

func statsV1(m *v1.Metrics) (s stats) {
	u, t := m.GetCPU().GetUsage(), m.GetCPU().GetThrottling()
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User, s.CPU.Usage.Percpu = u.GetTotal(), u.GetKernel(), u.GetUser(), u.GetPerCPU()
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = t.GetPeriods(), t.GetThrottledPeriods(), t.GetThrottledTime()
	mem := m.GetMemory()
	s.Memory = memoryStats{
		Cache: mem.GetCache(), Usage: entryV1(mem.GetUsage()), Swap: entryV1(mem.GetSwap()),
		Kernel: entryV1(mem.GetKernel()), KernelTCP: entryV1(mem.GetKernelTCP()),
		Raw: map[string]uint64{
			"cache": mem.GetCache(), "rss": mem.GetRSS(), "mapped_file": mem.GetMappedFile(),
			"pgfault": mem.GetPgFault(), "pgmajfault": mem.GetPgMajFault(),
			"inactive_anon": mem.GetInactiveAnon(), "active_anon": mem.GetActiveAnon(),
			"inactive_file": mem.GetInactiveFile(), "active_file": mem.GetActiveFile(),
			"total_inactive_file": mem.GetTotalInactiveFile(), "total_rss": mem.GetTotalRSS(), "total_cache": mem.GetTotalCache(),
		},
	}
	s.Pids = pidsStats{m.GetPids().GetCurrent(), m.GetPids().GetLimit()}
	s.Blkio = blkioStats{entriesV1(m.GetBlkio().GetIoServiceBytesRecursive()), entriesV1(m.GetBlkio().GetIoServicedRecursive())}
	for _, h := range m.GetHugetlb() {
		s.huge(h.GetPagesize(), memoryEntry{Usage: h.GetUsage(), Max: h.GetMax(), Failcnt: h.GetFailcnt()})
	}
	return s
}

func entryV1(e *v1.MemoryEntry) memoryEntry {
	return memoryEntry{e.GetLimit(), e.GetUsage(), e.GetMax(), e.GetFailcnt()}
}

func entriesV1(list []*v1.BlkIOEntry) (out []blkioEntry) {
	for _, e := range list {
		out = append(out, blkioEntry{e.GetMajor(), e.GetMinor(), e.GetOp(), e.GetValue()})
	}
	return out
}

func statsV2(m *v2.Metrics) (s stats) {
	const micro = 1000
	u := m.GetCPU()
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User = u.GetUsageUsec()*micro, u.GetSystemUsec()*micro, u.GetUserUsec()*micro
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = u.GetNrPeriods(), u.GetNrThrottled(), u.GetThrottledUsec()*micro
	mem := m.GetMemory()
	s.Memory = memoryStats{
		Cache: mem.GetFile(),
		Usage: memoryEntry{Limit: mem.GetUsageLimit(), Usage: mem.GetUsage(), Max: mem.GetMaxUsage(), Failcnt: m.GetMemoryEvents().GetMax()},
		Swap:  memoryEntry{Limit: mem.GetSwapLimit(), Usage: mem.GetSwapUsage()},
		Raw: map[string]uint64{
			"anon": mem.GetAnon(), "file": mem.GetFile(), "kernel_stack": mem.GetKernelStack(), "slab": mem.GetSlab(),
			"inactive_anon": mem.GetInactiveAnon(), "active_anon": mem.GetActiveAnon(),
			"inactive_file": mem.GetInactiveFile(), "active_file": mem.GetActiveFile(),
			"pgfault": mem.GetPgfault(), "pgmajfault": mem.GetPgmajfault(),
		},
	}
	s.Pids = pidsStats{m.GetPids().GetCurrent(), m.GetPids().GetLimit()}
	for _, e := range m.GetIo().GetUsage() {
		s.Blkio.Bytes = append(s.Blkio.Bytes, blkioEntry{e.GetMajor(), e.GetMinor(), "Read", e.GetRbytes()}, blkioEntry{e.GetMajor(), e.GetMinor(), "Write", e.GetWbytes()})
		s.Blkio.Ops = append(s.Blkio.Ops, blkioEntry{e.GetMajor(), e.GetMinor(), "Read", e.GetRios()}, blkioEntry{e.GetMajor(), e.GetMinor(), "Write", e.GetWios()})
	}
	for _, h := range m.GetHugetlb() {
		s.huge(h.GetPagesize(), memoryEntry{Usage: h.GetCurrent(), Limit: h.GetMax()})
	}
	return s
}

func (s *stats) huge(pagesize string, e memoryEntry) {
	if s.Hugetlb == nil {
		s.Hugetlb = map[string]memoryEntry{}
	}
	s.Hugetlb[pagesize] = e
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
