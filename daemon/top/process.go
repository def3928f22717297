// Package top makes the process tables of `docker top` from /proc, in the shape that
// ps would give them, without a ps on the host.
package top

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks per second of times in /proc/<pid>/stat; the kernel's interface fixes it.
const ticks = 100

// Process is one process as /proc shows it.
type Process struct {
	PID, PPID, PGID, SID int
	Comm                 string
	Args                 []string
	State                string
	UID, GID             uint32 // effective
	RUID, RGID           uint32
	TTY                  uint64 // device number, 0 is none
	Foreground           bool   // its group is the terminal's
	Used                 time.Duration
	Started              time.Time
	Priority, Nice       int
	Threads, Processor   int
	Virtual, Resident    uint64 // bytes
	Flags                uint64
	Locked               bool
	Waits                string // in which function of the kernel; "-" in none
}

// Host is what the table needs to know of the machine.
type Host struct {
	Boot   time.Time
	Memory uint64 // bytes
	Now    time.Time
	User   func(uid uint32) string
	Group  func(gid uint32) string
}

// Read reads one process; an error is that it has gone, mostly.
func Read(pid int, boot time.Time) (Process, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(string(stat), boot)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if status, err := os.ReadFile(dir + "status"); err == nil {
		p.parseStatus(string(status))
	}
	p.Waits = "-"
	if in, err := os.ReadFile(dir + "wchan"); err == nil && len(in) > 0 && string(in) != "0" {
		p.Waits = string(in)
	}
	if cmd, err := os.ReadFile(dir + "cmdline"); err == nil && len(cmd) > 0 {
		p.Args = strings.Split(strings.TrimRight(string(cmd), "\x00"), "\x00")
	}
	return p, nil
}

// parseStat reads proc_pid_stat(5). The name may hold anything, parentheses included.
func parseStat(s string, boot time.Time) (p Process, err error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return p, fmt.Errorf("malformed stat")
	}
	f := strings.Fields(s[end+1:])
	if len(f) < 37 {
		return p, fmt.Errorf("malformed stat: %d fields", len(f))
	}
	n := func(i int) int64 { v, _ := strconv.ParseInt(f[i-3], 10, 64); return v } // by the manual's numbers
	p.PID, err = strconv.Atoi(strings.TrimSpace(s[:open]))
	p.Comm, p.State = s[open+1:end], f[0]
	p.PPID, p.PGID, p.SID = int(n(4)), int(n(5)), int(n(6))
	p.TTY, p.Foreground = uint64(n(7)), n(8) == n(5)
	p.Flags = uint64(n(9))
	p.Used = time.Duration(n(14)+n(15)) * time.Second / ticks
	p.Priority, p.Nice, p.Threads = int(n(18)), int(n(19)), int(n(20))
	p.Started = boot.Add(time.Duration(n(22)) * time.Second / ticks)
	p.Virtual, p.Resident = uint64(n(23)), uint64(n(24))*uint64(os.Getpagesize())
	p.Processor = int(n(39))
	return p, err
}

func (p *Process) parseStatus(s string) {
	for line := range strings.Lines(s) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		id := func(i int) uint32 { v, _ := strconv.ParseUint(f[i], 10, 32); return uint32(v) }
		switch {
		case key == "Uid" && len(f) == 4:
			p.RUID, p.UID = id(0), id(1)
		case key == "Gid" && len(f) == 4:
			p.RGID, p.GID = id(0), id(1)
		case key == "VmRSS" && len(f) > 0: // stat's is rounded, per thread
			if kib, err := strconv.ParseUint(f[0], 10, 64); err == nil {
				p.Resident = kib << 10
			}
		case key == "VmLck" && len(f) > 0:
			p.Locked = f[0] != "0"
		}
	}
}

// BootTime is when the machine started, zero when that can't be told.
func BootTime() time.Time {
	stat, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(stat)) {
		if v, ok := strings.CutPrefix(line, "btime "); ok {
			sec, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Unix(sec, 0)
		}
	}
	return time.Time{}
}
