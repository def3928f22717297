// Package netns makes network namespaces that live as long as a file names them, and the
// user namespaces that own them.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/api/thread"
)

// Create makes a network namespace, runs inside (on a thread in it) and mounts it on
// path, a new file. The returned file is the namespace; the caller closes it. The
// name remains until Remove.
func Create(path string, inside func() error) (*os.File, error) {
	f, err := create(path, inside)
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", path, err)
	}
	return f, nil
}

func create(path string, inside func() error) (f *os.File, err error) {
	if err := makePoint(path); err != nil {
		return nil, err
	}
	failpoint.Hit("daemon/network/netns.create.file")
	thread.Apart(func() { f, err = unshareOnto(path, inside) })
	if err != nil {
		os.Remove(path)
	}
	return f, err
}

// makePoint makes the file that a namespace is mounted on.
func makePoint(path string) error {
	point, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	return point.Close()
}

// unshareOnto is called on a thread that ends afterwards.
func unshareOnto(path string, inside func() error) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := inside(); err != nil {
		return nil, err
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("bind mount: %w", err)
	}
	failpoint.Hit("daemon/network/netns.create.mounted")
	f, err := os.Open(path)
	if err != nil {
		unix.Unmount(path, unix.MNT_DETACH)
	}
	return f, err
}

// Remove takes the name away; a namespace that is gone already is fine. The kernel
// frees it, and the links in it, when nothing uses it any more.
func Remove(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	failpoint.Hit("daemon/network/netns.remove.unmounted")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
