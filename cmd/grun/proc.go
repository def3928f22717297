package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procRow is a process as ps shows it.
type procRow struct {
	owner     string
	pid, ppid int
	started   time.Time
	cpu       time.Duration
	command   string // arguments with spaces between, or the name in brackets
}

// userHZ is the unit of times in /proc on every architecture of Linux that Go has.
const userHZ = 100

func readProc(proc string, pid int) (procRow, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return procRow{}, err
	}
	row, name, err := parseStat(stat, bootTime())
	if err != nil {
		return procRow{}, err
	}
	row.pid, row.owner = pid, ownerOf(dir)
	cmd, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	row.command = printable(bytes.ReplaceAll(bytes.TrimRight(cmd, "\x00"), []byte{0}, []byte{' '}))
	if row.command == "" {
		row.command = "[" + printable([]byte(name)) + "]"
	}
	return row, nil
}

// parseStat reads /proc/PID/stat; the name in it may hold anything.
func parseStat(b []byte, boot time.Time) (row procRow, name string, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return row, "", fmt.Errorf("no name in %q", b)
	}
	f := strings.Fields(string(b[end+1:])) // from field 3, the state
	if len(f) < 20 {
		return row, "", fmt.Errorf("only %d fields", len(f))
	}
	var n [4]int64
	for i, k := range []int{1, 11, 12, 19} { // ppid, utime, stime, starttime
		if n[i], err = strconv.ParseInt(f[k], 10, 64); err != nil {
			return row, "", err
		}
	}
	const tick = time.Second / userHZ
	row.ppid, row.cpu, row.started = int(n[0]), time.Duration(n[1]+n[2])*tick, boot.Add(time.Duration(n[3])*tick)
	return row, string(b[open+1 : end]), nil
}

func bootTime() time.Time {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Now().Add(-time.Duration(now.Nano()))
}

// printable keeps a process from writing to our reader's terminal.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, string(b))
}
