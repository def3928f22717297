package top

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// column is one field of ps -o.
type column struct {
	title string
	show  func(p *Process, h *Host) string
}

var columns = map[string]column{
	"pid":   {"PID", func(p *Process, _ *Host) string { return fmt.Sprint(p.PID) }},
	"ppid":  {"PPID", func(p *Process, _ *Host) string { return fmt.Sprint(p.PPID) }},
	"pgid":  {"PGID", func(p *Process, _ *Host) string { return fmt.Sprint(p.PGID) }},
	"sid":   {"SID", func(p *Process, _ *Host) string { return fmt.Sprint(p.SID) }},
	"uid":   {"UID", func(p *Process, _ *Host) string { return fmt.Sprint(p.UID) }},
	"gid":   {"GID", func(p *Process, _ *Host) string { return fmt.Sprint(p.GID) }},
	"ruid":  {"RUID", func(p *Process, _ *Host) string { return fmt.Sprint(p.RUID) }},
	"rgid":  {"RGID", func(p *Process, _ *Host) string { return fmt.Sprint(p.RGID) }},
	"user":  {"USER", func(p *Process, h *Host) string { return h.User(p.UID) }},
	"euser": {"EUSER", func(p *Process, h *Host) string { return h.User(p.UID) }},
	"ruser": {"RUSER", func(p *Process, h *Host) string { return h.User(p.RUID) }},
	"group": {"GROUP", func(p *Process, h *Host) string { return h.Group(p.GID) }},
	"comm":  {"COMMAND", func(p *Process, _ *Host) string { return p.Comm }},
	"args":  {"COMMAND", func(p *Process, _ *Host) string { return p.command() }},
	"cmd":   {"CMD", func(p *Process, _ *Host) string { return p.command() }},
	"ucmd":  {"CMD", func(p *Process, _ *Host) string { return p.Comm }},
	"c":     {"C", func(p *Process, h *Host) string { return fmt.Sprint(min(99, int(p.cpu(h)))) }},
	"pcpu":  {"%CPU", func(p *Process, h *Host) string { return fmt.Sprintf("%.1f", p.cpu(h)) }},
	"pmem":  {"%MEM", func(p *Process, h *Host) string { return fmt.Sprintf("%.1f", p.memory(h)) }},
	"rss":   {"RSS", func(p *Process, _ *Host) string { return fmt.Sprint(p.Resident / 1024) }},
	"vsz":   {"VSZ", func(p *Process, _ *Host) string { return fmt.Sprint(p.Virtual / 1024) }},
	"sz":    {"SZ", func(p *Process, _ *Host) string { return fmt.Sprint(p.Virtual / uint64(os.Getpagesize())) }},
	"tname": {"TTY", func(p *Process, _ *Host) string { return ttyName(p.TTY) }},
	"tt":    {"TT", func(p *Process, _ *Host) string { return ttyName(p.TTY) }},
	"stat":  {"STAT", func(p *Process, _ *Host) string { return p.stat() }},
	"s":     {"S", func(p *Process, _ *Host) string { return p.State }},
	"time":  {"TIME", func(p *Process, _ *Host) string { return clock(p.Used) }},
	"btime": {"TIME", func(p *Process, _ *Host) string { return minutes(p.Used) }},
	"etime": {"ELAPSED", func(p *Process, h *Host) string { return elapsed(h.Now.Sub(p.Started)) }},
	"stime": {"STIME", func(p *Process, h *Host) string { return started(p.Started, h.Now) }},
	"sdate": {"START", func(p *Process, h *Host) string { return started(p.Started, h.Now) }},
	"start": {"STARTED", func(p *Process, h *Host) string { return startedAt(p.Started, h.Now) }},
	"lstart": {"STARTED", func(p *Process, _ *Host) string {
		return p.Started.Local().Format("Mon Jan _2 15:04:05 2006")
	}},
	"ni":    {"NI", func(p *Process, _ *Host) string { return fmt.Sprint(p.Nice) }},
	"opri":  {"PRI", func(p *Process, _ *Host) string { return fmt.Sprint(p.Priority + 60) }},
	"addr":  {"ADDR", func(*Process, *Host) string { return "-" }},
	"wchan": {"WCHAN", func(p *Process, _ *Host) string { return p.Waits }},
	"waits": {"WCHAN", func(p *Process, _ *Host) string { return p.Waits[:min(6, len(p.Waits))] }}, // as wide as -l has it
	"pri":   {"PRI", func(p *Process, _ *Host) string { return fmt.Sprint(39 - p.Priority) }},
	"nlwp":  {"NLWP", func(p *Process, _ *Host) string { return fmt.Sprint(p.Threads) }},
	"psr":   {"PSR", func(p *Process, _ *Host) string { return fmt.Sprint(p.Processor) }},
	"f":     {"F", func(p *Process, _ *Host) string { return fmt.Sprintf("%o", p.Flags>>6&7) }},
}

var aliases = map[string]string{
	"pgrp": "pgid", "sess": "sid", "session": "sid", "euid": "uid", "egid": "gid", "uname": "user",
	"egroup": "group", "rgroup": "group", "command": "args", "ucomm": "comm", "%cpu": "pcpu", "%mem": "pmem",
	"rsz": "rss", "rssize": "rss", "vsize": "vsz", "tty": "tt", "state": "s", "cputime": "time",
	"start_time": "sdate", "bsdstart": "sdate", "bsdtime": "btime", "nice": "ni", "thcount": "nlwp", "flag": "f", "flags": "f", "cp": "c",
}

func (p *Process) command() string {
	if len(p.Args) == 0 {
		return "[" + p.Comm + "]"
	}
	return strings.Join(p.Args, " ")
}

// cpu is the share of one processor over the process's life, in per cent.
func (p *Process) cpu(h *Host) float64 {
	life := h.Now.Sub(p.Started)
	if life <= 0 {
		return 0
	}
	return 100 * float64(p.Used) / float64(life)
}

func (p *Process) memory(h *Host) float64 {
	if h.Memory == 0 {
		return 0
	}
	return 100 * float64(p.Resident) / float64(h.Memory)
}

// stat is the state with BSD's marks.
func (p *Process) stat() string {
	s := p.State
	mark := func(on bool, m string) {
		if on {
			s += m
		}
	}
	mark(p.Nice < 0, "<")
	mark(p.Nice > 0, "N")
	mark(p.Locked, "L")
	mark(p.SID == p.PID, "s")
	mark(p.Threads > 1, "l")
	mark(p.TTY != 0 && p.Foreground, "+")
	return s
}

// ttyName knows the terminals that containers have; others are numbers.
func ttyName(dev uint64) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8|minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	case major == 5 && minor == 1:
		return "console"
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%d-%02d:%02d:%02d", days, s/3600%24, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

func minutes(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func elapsed(d time.Duration) string {
	if d < time.Hour {
		return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
	}
	return clock(d)
}

// startedAt is a time of the last day, else a day.
func startedAt(t, now time.Time) string {
	if now.Sub(t) < 24*time.Hour {
		return t.Local().Format("15:04:05")
	}
	return t.Local().Format("Jan 02")
}

// started is a time today, else a day.
func started(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	switch {
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format("15:04")
	case t.Year() == now.Year():
		return t.Format("Jan02")
	}
	return t.Format("2006")
}
