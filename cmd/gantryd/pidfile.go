package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pidfile holds the lock that keeps a second daemon off the same directories: the
// lock, not the number, is what counts, so that a number that was reused after a
// crash bars nobody.
type pidfile struct{ f *os.File }

func newPidfile(path string) (*pidfile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, err
	}
	pid := []byte(strconv.Itoa(os.Getpid()))
	_, err = f.WriteAt(pid, 0) // into the block that a crashed one has left: the disk may be full
	if err == nil {
		err = f.Truncate(int64(len(pid)))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &pidfile{f}, nil
}

// forkTime is how long a crashed daemon's lock may outlive it: a child that was on its
// way to another program has the descriptor until it gets there.
const forkTime = 5 * time.Second

// lock takes the lock, for which it waits when the one who has left its number is gone.
func lock(f *os.File) error {
	for deadline := time.Now().Add(forkTime); ; time.Sleep(5 * time.Millisecond) {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return nil
		}
		text := make([]byte, 32)
		n, _ := f.ReadAt(text, 0)
		text = bytes.TrimSpace(text[:n])
		pid, err := strconv.Atoi(string(text))
		if err != nil || pid < 1 || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) || time.Now().After(deadline) {
			return fmt.Errorf("process with PID %s is still running: pid file %s is locked", text, f.Name())
		}
	}
}

func (p *pidfile) remove() {
	os.Remove(p.f.Name())
	p.f.Close()
}
