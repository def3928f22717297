package main

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"gantry/api/unixsocket"
)

// isOpen says whether fd is an open descriptor.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// dial connects to a socket that wants a file of us; nil for none.
func dial(path string) (*net.UnixConn, error) {
	if path == "" {
		return nil, nil
	}
	name, release, err := address(path)
	if err != nil {
		return nil, err
	}
	defer release()
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
}

// address is the name to connect to a socket by: one that is too long is reached
// through a descriptor, which release closes.
func address(path string) (name string, release func(), err error) {
	if len(path) <= unixsocket.MaxPath {
		return path, func() {}, nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), func() { unix.Close(fd) }, nil
}

func closeConn(conn *net.UnixConn) {
	if conn != nil {
		conn.Close()
	}
}

// sendConsole gives the terminal's master away, if somebody wants it.
func sendConsole(conn *net.UnixConn, master *os.File) error {
	if conn != nil && master == nil {
		return fmt.Errorf("console socket: the process has no terminal")
	}
	if conn == nil {
		return nil
	}
	return send(conn, master.Name(), master)
}

// send gives a file away: its name as data, itself beside it, as every receiver
// of runc's files expects. No connection, nothing to do.
func send(conn *net.UnixConn, name string, f *os.File) error {
	if conn == nil {
		return nil
	}
	if f == nil {
		return fmt.Errorf("send %s: the process has ended", name)
	}
	if _, _, err := conn.WriteMsgUnix([]byte(name), unix.UnixRights(int(f.Fd())), nil); err != nil {
		return fmt.Errorf("send %s: %w", name, err)
	}
	return nil
}
