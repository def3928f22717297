// Package tally counts what the processes of a cgroup make the kernel do: program
// executions, new processes, syncs. It opens the kernel's tracepoints as perf counters
// bound to a cgroup, so what is counted runs undisturbed, and helpers that leave their
// parent (shims) are counted as long as they stay below the cgroup.
package tally

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Event is one thing to count: the sum of its tracepoints.
type Event struct {
	Name        string
	Tracepoints []string // "sched/sched_process_exec"
	Filter      string   // of each tracepoint; "" counts every hit
}

// Events are what a life cycle is judged by. Threads are no processes: CLONE_THREAD is
// 0x10000. Executions are those that succeeded.
var Events = []Event{
	{Name: "execs", Tracepoints: []string{"sched/sched_process_exec"}},
	{Name: "forks", Tracepoints: []string{"task/task_newtask"}, Filter: "!(clone_flags & 65536)"},
	{Name: "syncs", Tracepoints: []string{
		"syscalls/sys_enter_fsync", "syscalls/sys_enter_fdatasync", "syscalls/sys_enter_sync_file_range",
		"syscalls/sys_enter_syncfs", "syscalls/sys_enter_sync",
	}},
}

// Counters are open perf counters; close them after use. Not for concurrent use.
type Counters struct {
	fds map[string][]int // by event, one per tracepoint and processor
}

// Open counts Events in the cgroup v2 directory cgroup and below, from now on. The
// tracing file system is mounted at tracefs.
func Open(tracefs, cgroup string) (_ *Counters, err error) {
	c := &Counters{fds: map[string][]int{}}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, err
	}
	cpus, err := parseList(string(online))
	if err != nil {
		return nil, err
	}
	for _, e := range Events {
		for _, point := range e.Tracepoints {
			raw, err := os.ReadFile(filepath.Join(tracefs, "events", point, "id"))
			if err != nil {
				return nil, fmt.Errorf("tracepoint %s: %w", point, err)
			}
			id, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("tracepoint %s: %w", point, err)
			}
			for _, cpu := range cpus {
				fd, err := open(id, int(dir.Fd()), cpu)
				if err != nil {
					return nil, fmt.Errorf("count %s: %w", point, err)
				}
				c.fds[e.Name] = append(c.fds[e.Name], fd)
				if err := filter(fd, e.Filter); err != nil {
					return nil, fmt.Errorf("filter %s by %q: %w", point, e.Filter, err)
				}
			}
		}
	}
	return c, nil
}

// Read returns the counts by event name since Open.
func (c *Counters) Read() (map[string]float64, error) {
	sums := map[string]float64{}
	for name, fds := range c.fds {
		for _, fd := range fds {
			var b [8]byte
			if n, err := syscall.Read(fd, b[:]); err != nil || n != len(b) {
				return nil, fmt.Errorf("read the count of %s: %w", name, errors.Join(err))
			}
			sums[name] += float64(binary.NativeEndian.Uint64(b[:]))
		}
	}
	return sums, nil
}

// Close ends the counting.
func (c *Counters) Close() {
	for _, fds := range c.fds {
		for _, fd := range fds {
			syscall.Close(fd)
		}
	}
	c.fds = nil
}

// attr is the first published form of struct perf_event_attr (linux/perf_event.h).
type attr struct {
	kind, size                                   uint32
	config, period, sampleType, readFormat, bits uint64
	wakeup, breakpoint                           uint32
	breakpointAddr                               uint64
}

const (
	tracepoint  = 2 // PERF_TYPE_TRACEPOINT
	pidIsCgroup = 4 // PERF_FLAG_PID_CGROUP
	closeOnExec = 8 // PERF_FLAG_FD_CLOEXEC
)

// setFilter is PERF_EVENT_IOC_SET_FILTER.
const setFilter = 0x40082406

// sysPerfEventOpen is the number of perf_event_open(2) on linux/amd64 and linux/arm64.
var sysPerfEventOpen = map[string]uintptr{"amd64": 298, "arm64": 241}[runtime.GOARCH]

func open(id uint64, cgroup, cpu int) (int, error) {
	a := attr{kind: tracepoint, size: uint32(unsafe.Sizeof(attr{})), config: id}
	fd, _, errno := syscall.Syscall6(sysPerfEventOpen, uintptr(unsafe.Pointer(&a)), uintptr(cgroup), uintptr(cpu), ^uintptr(0), pidIsCgroup|closeOnExec, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("perf_event_open", errno)
	}
	return int(fd), nil
}

func filter(fd int, expr string) error {
	if expr == "" {
		return nil
	}
	p, err := syscall.BytePtrFromString(expr)
	if err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), setFilter, uintptr(unsafe.Pointer(p))); errno != 0 {
		return errno
	}
	return nil
}

// parseList reads the kernel's list of processors, such as "0-3,8".
func parseList(s string) (cpus []int, err error) {
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		if err != nil {
			return nil, fmt.Errorf("list of processors %q: %w", s, err)
		}
		last, err := strconv.Atoi(to)
		if err != nil {
			return nil, fmt.Errorf("list of processors %q: %w", s, err)
		}
		for i := first; i <= last; i++ {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// PerOperation is how often each event happened for one of n operations: the difference
// of two readings less what the idle engine does in that time, never below zero.
func PerOperation(before, after, idlePerSecond map[string]float64, seconds float64, n int) map[string]float64 {
	per := map[string]float64{}
	for name := range after {
		per[name] = max(0, after[name]-before[name]-idlePerSecond[name]*seconds) / float64(n)
	}
	return per
}
