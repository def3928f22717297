package shimwire

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/unixsocket"
)

// maxChunk is the size of one Stdin frame in bytes.
const maxChunk = 32 << 10

// Conn is an open stream of one process. Read is for one goroutine; the other
// methods are safe for concurrent use.
type Conn struct {
	conn  *net.UnixConn
	start Position

	r     *bufio.Reader
	body  []byte
	ended bool

	wmu sync.Mutex // one frame at a time; held across writes
}

// Dial opens a stream on the container's socket. ctx bounds the opening only.
// It fails with ErrNotFound when there is no such process, ErrUnavailable when
// nobody listens at socket, and ErrFailedPrecondition for stdin of a process
// that has none.
func Dial(ctx context.Context, socket string, h Hello) (*Conn, error) {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(h)
	if err != nil {
		conn.Close()
		return nil, err
	}
	hello := append(appendHeader(nil, kindHello, 0, len(body)), body...)
	c := &Conn{conn: conn, r: bufio.NewReaderSize(conn, 32<<10)}
	welcome, err := exchange(ctx, conn, c.r, hello)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if welcome.kind != kindWelcome || len(welcome.body) != positionSize {
		conn.Close()
		return nil, fmt.Errorf("unexpected frame of kind %#x from shim", uint8(welcome.kind))
	}
	c.start = decodePosition(welcome.body)
	return c, nil
}

// Start is the position at which the stream began.
func (c *Conn) Start() Position { return c.start }

// Read returns the next frame; after End it returns io.EOF. A connection lost
// before that is io.ErrUnexpectedEOF.
func (c *Conn) Read() (Frame, error) {
	if c.ended {
		return Frame{}, io.EOF
	}
	r, err := readRaw(c.r, c.body)
	if err != nil {
		return Frame{}, noEOF(err)
	}
	c.body = r.body[:0]
	f, err := r.decode()
	c.ended = err == nil && f.Kind == End
	return f, err
}

// Keep leaves the Data of the frame read last to the caller, for good. It is for the
// goroutine of Read.
func (c *Conn) Keep() { c.body = nil }

// Ready says that Read would not wait: a whole frame has come.
func (c *Conn) Ready() bool {
	n := c.r.Buffered()
	if n < headerSize {
		return false
	}
	head, err := c.r.Peek(headerSize)
	return err == nil && n-headerSize >= int(binary.BigEndian.Uint32(head[4:]))
}

// Write sends p to the process's stdin. It blocks while the process does not
// read. Not for a Conn dialled without Stdin.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for len(p) > 0 {
		part := p[:min(len(p), maxChunk)]
		frame := net.Buffers{appendHeader(nil, kindStdin, 0, len(part)), part}
		if _, err := frame.WriteTo(c.conn); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// CloseStdin ends the process's stdin after what has been written.
func (c *Conn) CloseStdin() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, err := c.conn.Write(appendHeader(nil, kindCloseStdin, 0, 0))
	return err
}

// Close ends the connection and unblocks the other methods; the process goes on.
func (c *Conn) Close() error { return c.conn.Close() }

// exchange sends request and reads one frame; an Error frame becomes an error.
func exchange(ctx context.Context, conn *net.UnixConn, r io.Reader, request []byte) (raw, error) {
	return answer(ctx, conn, r, func() error { _, err := conn.Write(request); return err })
}

// answerTimeout is how long a shim may take for its first frame: one that is stopped
// takes connections all the same.
const answerTimeout = 10 * time.Second

func answer(caller context.Context, conn *net.UnixConn, r io.Reader, send func() error) (raw, error) {
	ctx, cancel := context.WithTimeout(caller, answerTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := send()
	var f raw
	if err == nil {
		f, err = readRaw(r, nil)
	}
	switch {
	case caller.Err() != nil:
		return raw{}, caller.Err()
	case ctx.Err() != nil:
		return raw{}, fmt.Errorf("shim does not answer on its stream socket: %w", ctx.Err())
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, io.EOF):
		return raw{}, errdefs.Unavailable("shim closed its stream socket")
	case err != nil:
		return raw{}, noEOF(err)
	case f.kind == kindError:
		return raw{}, decodeError(f.body)
	}
	return f, nil
}

// dialUnix connects to a socket at a path of any length.
func dialUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	short, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, errdefs.Unavailable("connect to shim: %w", err)
	}
	defer release()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", short)
	if err != nil {
		return nil, errdefs.Unavailable("connect to shim at %s: %w", path, errno(err))
	}
	return conn.(*net.UnixConn), nil
}

// Listen makes the stream socket at a path of any length, in place of one that
// is there. Only its owner may connect: mode 0600.
func Listen(path string) (*net.UnixListener, error) {
	short, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	defer release()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	l, err := private(short)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, errno(err))
	}
	l.SetUnlinkOnClose(false) // the short path may not lead there later
	return l, nil
}

// backlog is how many connections may wait to be accepted; package net takes 64 KiB
// of memory to ask the kernel for the most.
const backlog = 128

// private makes a socket that has its mode before it has a name, so that nobody else
// can connect at any time.
func private(path string) (*net.UnixListener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// errno takes the bare cause out of a net error, whose text names a short path.
func errno(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
