package main

import (
	"os"
	"strings"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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

// The getters of messages are those of protobuf: nil gives zeros.

func (s *stats) fillV1(m *v1.Metrics) {
	u, t := m.GetCPU().GetUsage(), m.GetCPU().GetThrottling()
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User, s.CPU.Usage.Percpu = u.GetTotal(), u.GetKernel(), u.GetUser(), u.GetPerCPU()
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = t.GetPeriods(), t.GetThrottledPeriods(), t.GetThrottledTime()
	mem := m.GetMemory()
	s.Memory = memoryStats{
		Cache: mem.GetCache(), Usage: entryV1(mem.GetUsage()), Swap: entryV1(mem.GetSwap()),
		Kernel: entryV1(mem.GetKernel()), KernelTCP: entryV1(mem.GetKernelTCP()),
		Raw: raw(mem),
	}
	s.Pids = pidsStats{m.GetPids().GetCurrent(), m.GetPids().GetLimit()}
	io := m.GetBlkio()
	s.Blkio = blkioStats{
		Bytes: entriesV1(io.GetIoServiceBytesRecursive()), Ops: entriesV1(io.GetIoServicedRecursive()),
		Queued: entriesV1(io.GetIoQueuedRecursive()), ServiceTime: entriesV1(io.GetIoServiceTimeRecursive()),
		WaitTime: entriesV1(io.GetIoWaitTimeRecursive()), Merged: entriesV1(io.GetIoMergedRecursive()),
		Time: entriesV1(io.GetIoTimeRecursive()), Sectors: entriesV1(io.GetSectorsRecursive()),
	}
	for _, h := range m.GetHugetlb() {
		s.huge(h.GetPagesize(), hugetlbStats{Usage: h.GetUsage(), Max: h.GetMax(), Failcnt: h.GetFailcnt()})
	}
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

func (s *stats) fillV2(m *v2.Metrics) {
	const micro = 1000
	u := m.GetCPU()
	s.CPU.Usage.Total, s.CPU.Usage.Kernel, s.CPU.Usage.User = u.GetUsageUsec()*micro, u.GetSystemUsec()*micro, u.GetUserUsec()*micro
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = u.GetNrPeriods(), u.GetNrThrottled(), u.GetThrottledUsec()*micro
	mem := m.GetMemory()
	s.Memory = memoryStats{
		Cache: mem.GetFile(),
		Usage: memoryEntry{Limit: mem.GetUsageLimit(), Usage: mem.GetUsage(), Max: mem.GetMaxUsage(), Failcnt: m.GetMemoryEvents().GetMax()},
		Swap:  memoryEntry{Limit: sum(mem.GetUsageLimit(), mem.GetSwapLimit()), Usage: mem.GetUsage() + mem.GetSwapUsage()},
		Raw:   raw(mem), PSI: pressureOf(mem.GetPSI()),
	}
	s.CPU.PSI, s.Blkio.PSI = pressureOf(u.GetPSI()), pressureOf(m.GetIo().GetPSI())
	s.Pids = pidsStats{m.GetPids().GetCurrent(), m.GetPids().GetLimit()}
	for _, e := range m.GetIo().GetUsage() {
		s.Blkio.Bytes = append(s.Blkio.Bytes, blkioEntry{e.GetMajor(), e.GetMinor(), "Read", e.GetRbytes()}, blkioEntry{e.GetMajor(), e.GetMinor(), "Write", e.GetWbytes()})
		s.Blkio.Ops = append(s.Blkio.Ops, blkioEntry{e.GetMajor(), e.GetMinor(), "Read", e.GetRios()}, blkioEntry{e.GetMajor(), e.GetMinor(), "Write", e.GetWios()})
	}
	for _, h := range m.GetHugetlb() {
		s.huge(h.GetPagesize(), hugetlbStats{Usage: h.GetCurrent(), Failcnt: h.GetFailcnt()})
	}
}

// sum is the limit of two together, where all bits are no limit.
func sum(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

func (s *stats) huge(pagesize string, e hugetlbStats) {
	s.Hugetlb[pagesize] = e
}

// raw gives the fields of a message of memory statistics by the kernel's names of
// them, less what is told elsewhere.
func raw(m proto.Message) map[string]uint64 {
	msg := m.ProtoReflect()
	if !msg.IsValid() {
		return nil
	}
	all := map[string]uint64{}
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := kernelName.Replace(string(f.Name()))
		if f.Kind() == protoreflect.Uint64Kind && !strings.Contains(name, "usage") && !strings.HasPrefix(name, "swap_") {
			all[name] = msg.Get(f).Uint()
		}
	}
	return all
}

var kernelName = strings.NewReplacer("pg_pg_", "pgpg", "pg_fault", "pgfault", "pg_maj_fault", "pgmajfault", "_swap_limit", "_memsw_limit")

func pressureOf(p *v2.PSIStats) *pressure {
	if p == nil {
		return nil
	}
	of := func(d *v2.PSIData) waits { return waits{d.GetAvg10(), d.GetAvg60(), d.GetAvg300(), d.GetTotal()} }
	return &pressure{of(p.GetSome()), of(p.GetFull())}
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
