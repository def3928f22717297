package server

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/unixsocket"
)

// socket is a listening unix socket that knows its file.
type socket struct {
	*net.UnixListener
	path string
	file identity
}

// identity tells a file from a later one at the same path, which may have its
// inode again.
type identity struct {
	inode uint64
	made  unix.Timespec
}

func identify(path string) (identity, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return identity{st.Ino, st.Mtim}, err
}

// listenUnix makes a socket for root, and for the group gid. A socket nobody
// listens on any more is replaced; one that is in use is an error.
func listenUnix(path string, uid, gid int) (_ *socket, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	l, err := bind(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
			os.Remove(path)
		}
	}()
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return nil, err
	}
	file, err := identify(path)
	if err != nil {
		return nil, err
	}
	return &socket{UnixListener: l, path: path, file: file}, nil
}

// bind listens on a path that may be longer than sun_path, through a descriptor
// of its directory.
func bind(path string) (*net.UnixListener, error) {
	name, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// clearStale removes a socket that a process left behind when it died.
func clearStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return errdefs.FailedPrecondition("%s exists and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return errdefs.FailedPrecondition("another process listens there")
	}
	if errors.Is(err, unix.ECONNREFUSED) || len(path) > unixsocket.MaxPath {
		return os.Remove(path)
	}
	return err
}

// remove unlinks the socket unless another process has put its own there.
func (s *socket) remove() {
	_ = s.Close()
	if file, err := identify(s.path); err == nil && file == s.file {
		_ = os.Remove(s.path)
	}
}
