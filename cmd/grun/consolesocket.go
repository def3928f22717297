package main

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// isOpen says whether fd is an open descriptor.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// dialConsole connects to the socket that wants the terminal. A path that is too
// long for an address is reached through a descriptor.
func dialConsole(path string) (*net.UnixConn, error) {
	addr := path
	if len(addr) >= 108 { // sun_path of unix(7)
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("console socket %s: %w", path, err)
		}
		defer unix.Close(fd)
		addr = "/proc/self/fd/" + strconv.Itoa(fd)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: addr, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("console socket: %w", err)
	}
	return conn, nil
}

// sendConsole gives the terminal's master away: its name as data, itself beside
// it, as every receiver of runc's consoles expects.
func sendConsole(conn *net.UnixConn, master *os.File) error {
	if master == nil {
		return fmt.Errorf("console socket: the process has no terminal")
	}
	_, _, err := conn.WriteMsgUnix([]byte(master.Name()), unix.UnixRights(int(master.Fd())), nil)
	if err != nil {
		return fmt.Errorf("send terminal: %w", err)
	}
	return nil
}
