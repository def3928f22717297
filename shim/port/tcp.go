package port

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds the connection to the container.
const dialTimeout = 10 * time.Second

// acceptPause is the wait after a failed accept, when descriptors have run out.
const acceptPause = 50 * time.Millisecond

// tcpRelay carries connections, each with its own end in each direction.
type tcpRelay struct {
	l    *net.TCPListener
	to   string
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// relayTCP listens on a bound socket, which may listen already.
func relayTCP(f *os.File, to string, log *slog.Logger) (holder, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := rc.Control(func(fd uintptr) { err = unix.Listen(int(fd), unix.SOMAXCONN) })
	if err = errors.Join(err, cerr); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	r := &tcpRelay{l: l.(*net.TCPListener), to: to, log: log}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	return r, nil
}

func (r *tcpRelay) close() {
	r.stop()
	r.l.Close()
	r.wg.Wait()
}

func (r *tcpRelay) accept() {
	for r.ctx.Err() == nil {
		c, err := r.l.AcceptTCP()
		if err == nil {
			r.wg.Go(func() { r.carry(c) })
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		r.log.Warn("accept on published port", "err", err)
		select {
		case <-time.After(acceptPause):
		case <-r.ctx.Done():
		}
	}
}

// carry connects a client to the container; the kernel moves the bytes (splice).
func (r *tcpRelay) carry(client *net.TCPConn) {
	defer client.Close()
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(r.ctx, "tcp", r.to)
	if err != nil {
		client.SetLinger(0) // refused there, reset here
		if !errors.Is(err, syscall.ECONNREFUSED) {
			r.log.Debug("relay to container", "to", r.to, "err", err)
		}
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	stop := context.AfterFunc(r.ctx, func() { client.Close(); server.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { half(client, server) })
	half(server, client)
	back.Wait()
}

// half carries one direction and its end.
func half(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// One side is gone without a goodbye: so is the other.
		to.SetLinger(0)
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
