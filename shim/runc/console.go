package runc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// consoleSocket is where a runtime sends the terminal's master.
type consoleSocket struct {
	dir, path string
	l         *net.UnixListener
}

func newConsoleSocket() (*consoleSocket, error) {
	dir, err := os.MkdirTemp("", "pty")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "pty.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &consoleSocket{dir: dir, path: path, l: l}, nil
}

func (s *consoleSocket) close() {
	s.l.Close()
	os.RemoveAll(s.dir)
}

// consoleTimeout bounds the wait for a master that the runtime, which has
// finished, must have sent already.
const consoleTimeout = 5 * time.Second

func (s *consoleSocket) receive(ctx context.Context) (*os.File, error) {
	s.l.SetDeadline(time.Now().Add(consoleTimeout))
	conn, err := s.l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(consoleTimeout))
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.Join(errors.New("runtime sent no console"), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("runtime sent no console"), err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
