package cgroup

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openPlain opens a file of cgroupfs. Package os would tell its poller of it, since
// these files can be polled, with five calls more for each, and a wake-up.
func openPlain(path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// readPlain reads all of a small file of cgroupfs.
func readPlain(path string) ([]byte, error) {
	f, err := openPlain(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
