package cgroup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openPlain opens a file of cgroupfs. Package os would tell its poller of it, since
// these files can be polled, with five calls more for each, and a wake-up.
func openPlain(path string, flags int) (*os.File, error) {
	fd, err := retried(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// readPlain reads all of a small file of cgroupfs, with no call but open, read and close,
// and no memory but the answer's: a sample of all counters reads some thirty.
func readPlain(path string) ([]byte, error) {
	fd, err := retried(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var (
		all []byte
		buf [4 << 10]byte
	)
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return all, nil
		default:
			all = append(all, buf[:n]...)
		}
	}
}

// retried makes a call again for as long as a signal interrupts it.
func retried(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
