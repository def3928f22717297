package httputil

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp says whether both directions of c have ended, as opposed to a half close.
// On a unix socket that is the peer's close; on TCP it takes a reset, or our own end.
func hungUp(c net.Conn) bool {
	sc, ok := socket(c).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	up := false
	if err := raw.Control(func(fd uintptr) { up = pollHangup(fd) }); err != nil {
		return true // closed by us
	}
	return up
}

// watchHangup calls gone once when c hangs up. The goroutine ends then, or by stop,
// which waits for it. It parks in the netpoller on a duplicate of the socket, so it
// neither holds a thread nor stands in the way of readers.
func watchHangup(c net.Conn, gone func()) (stop func()) {
	filer, ok := socket(c).(interface{ File() (*os.File, error) })
	if !ok {
		return func() {}
	}
	f, err := filer.File()
	if err != nil {
		return func() {}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The function is called again at each edge; Close of f ends the wait with an error.
		if raw.Read(pollHangup) == nil {
			gone()
		}
	}()
	return func() {
		_ = f.Close()
		<-done
	}
}

func pollHangup(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	for {
		n, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	}
}

// socket returns what is below TLS.
func socket(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}
