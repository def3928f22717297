// Package link is a connection to a receiver of logs, of any network: it notices that
// the other end has gone before something is written to nobody, bounds every wait, and
// tells when what was written has arrived, as far as the kernel knows.
package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Link is a connection that is made when it is needed. Not safe for concurrent use.
type Link struct {
	// Dial makes the connection.
	Dial func(ctx context.Context) (net.Conn, error)
	// Patience is how long the other end may take nothing; 0 means half a minute.
	Patience time.Duration

	conn  net.Conn
	since time.Time // of the connection
	dirty bool      // something has been written and is not known to have arrived
}

const (
	dialTimeout     = 10 * time.Second
	defaultPatience = 30 * time.Second
	// chunk is written within one patience, so that a slow receiver makes progress.
	chunk = 16 << 10
	// untilRead is how long Settle waits for a local receiver to read a datagram: it is
	// in its queue already.
	untilRead = time.Second
)

// Connect makes the connection where there is none.
func (l *Link) Connect(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := l.Dial(ctx)
	if err != nil {
		return err
	}
	l.conn, l.since, l.dirty = conn, time.Now(), false
	return nil
}

// Conn is the connection, nil when there is none.
func (l *Link) Conn() net.Conn { return l.conn }

// Age is how long the connection has been there.
func (l *Link) Age() time.Duration { return time.Since(l.since) }

// Close ends the connection.
func (l *Link) Close() error {
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

// Write writes b: all of it to a stream, or as one datagram. On an error the connection
// is closed. One that the other end has closed meanwhile is made anew, unless what was
// written to it before is still under way.
func (l *Link) Write(ctx context.Context, b []byte) (err error) {
	if err := l.revive(ctx); err != nil {
		return err
	}
	defer l.Guard(ctx, &err)()
	l.dirty = true
	if l.datagrams() {
		return l.write(ctx, b)
	}
	for len(b) > 0 && err == nil {
		n := min(len(b), chunk)
		err = l.write(ctx, b[:n])
		b = b[n:]
	}
	return err
}

func (l *Link) revive(ctx context.Context) error {
	if l.conn != nil {
		if err := l.check(); err != nil {
			lost := l.dirty
			l.Close()
			if lost {
				return err
			}
		}
	}
	return l.Connect(ctx)
}

func (l *Link) write(ctx context.Context, b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.patience())); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // it may have set a deadline just before
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

func (l *Link) patience() time.Duration {
	if l.Patience > 0 {
		return l.Patience
	}
	return defaultPatience
}

// Guard lets ctx end reads and writes of the connection until the function it returns is
// called, which also closes the connection when *err is one, and makes it ctx's where
// that was the reason.
func (l *Link) Guard(ctx context.Context, err *error) func() {
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // it is closed then
	return func() {
		stop()
		if *err == nil {
			return
		}
		l.Close()
		if ctx.Err() != nil {
			*err = ctx.Err()
		}
	}
}

// Settle waits until the other end's kernel, or a local receiver itself, has what was
// written.
func (l *Link) Settle(ctx context.Context) (err error) {
	switch {
	case !l.dirty:
		return nil
	case l.conn == nil:
		return net.ErrClosed
	}
	defer l.Guard(ctx, &err)()
	begun := time.Now()
	for last, wait := -1, time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if err := l.check(); err != nil {
			return err
		}
		left, err := l.unsent()
		switch {
		case err != nil:
			return err
		case left == 0, l.network() == "unixgram" && time.Since(begun) > untilRead:
			l.dirty = false
			return nil
		case left != last:
			last, begun = left, time.Now()
		case time.Since(begun) > l.patience():
			return fmt.Errorf("the other end has taken nothing for %s: %w", l.patience(), os.ErrDeadlineExceeded)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Settled says that what was written is known to have arrived by other means.
func (l *Link) Settled() { l.dirty = false }

// unsent is how many bytes the other end has not acknowledged, or not read where it is
// on this machine.
func (l *Link) unsent() (n int, err error) {
	if l.network() == "udp" {
		return 0, nil
	}
	return n, l.control(func(fd int) { n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ) }, &err)
}

// check says whether the other end has closed the connection, or has refused a
// datagram. What it has sent is read and forgotten: nobody expects it, and unread it
// would reset the connection when it is closed.
func (l *Link) check() error {
	for range maxUnexpected {
		var n, code int
		var err error
		ferr := l.control(func(fd int) {
			if code, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code == 0 && !l.datagrams() {
				n, _, err = unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			}
		}, &err)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case ferr != nil:
			return ferr
		case code != 0:
			return syscall.Errno(code)
		case l.datagrams():
			return nil
		case n == 0:
			return io.EOF
		}
		if err := l.discard(); err != nil {
			return err
		}
	}
	return errors.New("the other end talks where it should listen")
}

// maxUnexpected bounds how often something unexpected is read at once.
const maxUnexpected = 16

func (l *Link) discard() error {
	l.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) //nolint:errcheck // the read then tells
	defer l.conn.SetReadDeadline(time.Time{})                      //nolint:errcheck // as above
	_, err := l.conn.Read(make([]byte, 4<<10))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// control calls f with the descriptor below the connection.
func (l *Link) control(f func(fd int), ferr *error) error {
	conn := l.conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) { f(int(fd)) }); err != nil {
		return err
	}
	return *ferr
}

func (l *Link) network() string { return l.conn.RemoteAddr().Network() }

func (l *Link) datagrams() bool { n := l.network(); return n == "udp" || n == "unixgram" }

// Reset says of an error that the other end's kernel has thrown away what it had
// acknowledged, perhaps.
func Reset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// WriteFile sends a file, as an empty datagram with its descriptor, over a unix socket.
// Errors are as Write's.
func (l *Link) WriteFile(ctx context.Context, f *os.File) (err error) {
	if err := l.revive(ctx); err != nil {
		return err
	}
	conn, ok := l.conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("send a file over %s", l.network())
	}
	defer l.Guard(ctx, &err)()
	l.dirty = true
	if err := conn.SetWriteDeadline(time.Now().Add(l.patience())); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	if werr := raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), nil, rights, nil, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	}); werr != nil {
		return werr
	}
	return err
}
