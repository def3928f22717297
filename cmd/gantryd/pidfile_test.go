package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPidfileOfTheDead takes the lock over from a daemon that was killed while a child
// of it was on its way to another program.
func TestPidfileOfTheDead(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	f := locked(t, dead.Process.Pid)
	time.AfterFunc(50*time.Millisecond, func() { f.Close() })
	p, err := newPidfile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	p.remove()
}

func TestPidfileOfTheLiving(t *testing.T) {
	f := locked(t, os.Getpid())
	defer f.Close()
	begun := time.Now()
	if _, err := newPidfile(f.Name()); err == nil || !strings.Contains(err.Error(), "process with PID "+strconv.Itoa(os.Getpid())+" is still running") {
		t.Errorf("got %v", err)
	}
	if time.Since(begun) >= forkTime {
		t.Error("waited for a process that lives")
	}
}

// locked is a pid file with a number in it that somebody holds.
func locked(t *testing.T, pid int) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(strconv.Itoa(pid)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return f
}
