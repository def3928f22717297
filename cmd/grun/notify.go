package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/unixsocket"
)

// A service manager that started us with NOTIFY_SOCKET wants to hear, by
// sd_notify(3), when the container is ready. The container gets a socket of ours
// and never the manager's, which takes commands: we tell only of its readiness.

const (
	notifyName   = "notify.sock"
	notifyInside = "/run/notify" // where the socket's directory is mounted
)

// showNotifySocket shows the directory of the socket to the container.
func showNotifySocket(spec *specs.Spec, dir string) {
	spec.Mounts = append(spec.Mounts, specs.Mount{
		Destination: notifyInside, Source: dir, Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"},
	})
	spec.Process.Env = append(spec.Process.Env, "NOTIFY_SOCKET="+filepath.Join(notifyInside, notifyName))
}

// notifier hears the container and tells the service manager. A nil one does nothing.
type notifier struct {
	manager string // its socket
	conn    *net.UnixConn
}

// listenNotify opens the container's socket; nil without a service manager, or for
// a container that was created without one.
func listenNotify(manager, dir string) (*notifier, error) {
	if manager == "" {
		return nil, nil
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	path := filepath.Join(dir, notifyName)
	name, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	defer release()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	if err := os.Chmod(path, 0o777); err != nil { // any user of the container may be the service
		conn.Close()
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	return &notifier{manager, conn}, nil
}

func (n *notifier) close() {
	if n != nil {
		n.conn.Close()
	}
}

// relayBeside does what relay does while the caller goes on; its result ends it
// and waits for that.
func (n *notifier) relayBeside(main int, init *os.File) (stop func()) {
	if n == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.relay(main, init)
	}()
	return func() {
		n.close()
		<-done
	}
}

// relay waits until the container says that it is ready, or its init ends, and
// tells the manager, with main as the process to watch.
func (n *notifier) relay(main int, init *os.File) error {
	if n == nil {
		return nil
	}
	stop := make(chan struct{})
	defer close(stop)
	over := ends(init)
	go func() { // ends with relay
		select {
		case <-over:
			n.conn.SetReadDeadline(time.Now().Add(lateNotice))
		case <-stop:
		}
	}()
	buf := make([]byte, 4096)
	for {
		size, err := n.conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("notify socket: %w", err)
		}
		if line := readiness(buf[:size]); line != nil {
			return n.tell(line, main)
		}
	}
}

// lateNotice is for what a container sent before its end and we have not read.
const lateNotice = 10 * time.Millisecond

// readiness is the line of a notification that says so, nil for none.
func readiness(notification []byte) []byte {
	for line := range bytes.SplitSeq(notification, []byte{'\n'}) {
		if bytes.HasPrefix(line, []byte("READY=")) {
			return line
		}
	}
	return nil
}

// tell passes on that the container is ready and waits until the manager has
// heard it.
func (n *notifier) tell(ready []byte, main int) error {
	name := n.manager
	if name[0] != '@' { // not one without a path
		near, release, err := address(name)
		if err != nil {
			return fmt.Errorf("notify service manager: %w", err)
		}
		defer release()
		name = near
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer conn.Close()
	for _, line := range []string{string(ready), "MAINPID=" + strconv.Itoa(main)} {
		if _, err := conn.Write([]byte(line + "\n")); err != nil {
			return fmt.Errorf("notify service manager: %w", err)
		}
	}
	return barrier(conn)
}

// barrier waits until all that was sent has been received: the receiver closes the
// file that comes with BARRIER=1, or it is closed by the kernel, since nobody took
// it. A receiver that keeps it is given up.
func barrier(conn *net.UnixConn) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer read.Close()
	err = sendFile(conn, []byte("BARRIER=1"), write)
	write.Close()
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	read.SetReadDeadline(time.Now().Add(30 * time.Second))
	read.Read(make([]byte, 1))
	return nil
}

// sendFile sends a datagram with a file; WriteMsgUnix does not on a connected socket.
func sendFile(conn *net.UnixConn, text []byte, f *os.File) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	werr := raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), text, unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN
	})
	if werr != nil {
		return werr
	}
	return err
}
