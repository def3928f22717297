package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

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
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		held := make([]byte, 32)
		n, _ := f.ReadAt(held, 0)
		f.Close()
		return nil, fmt.Errorf("process with PID %s is still running: pid file %s is locked", bytes.TrimSpace(held[:n]), path)
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

func (p *pidfile) remove() {
	os.Remove(p.f.Name())
	p.f.Close()
}
