package httputil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types"

	"gantry/api/rest"
	"gantry/api/stream"
)

// patience bounds how long a stream's first bytes wait for the client to have read the
// head of the answer.
const patience = time.Second

// linger bounds how long Upgrade.Close waits for the client to finish reading.
const linger = 5 * time.Second

// ErrGone is what a client's Stdin yields when the client has hung up, where a half
// close yields io.EOF.
var ErrGone = errors.New("client has hung up")

// Upgrade turns one request into a stream. Open is its stream.Opener; the handler
// that made it calls Close at its end.
//
// On the wire: a request with an Upgrade header is answered by 101, any other by 200
// without a length; from the empty line on the socket is raw. The content type of a
// 101 tells framed from raw since API 1.42; a 200 always says raw, as dockerd's does.
type Upgrade struct {
	ctx    context.Context // ends when the client hangs up, or with the request
	cancel context.CancelFunc
	w      http.ResponseWriter
	r      *http.Request

	conn *rawConn
	gone chan struct{}
	stop func() // ends the watch for a hang-up
}

// NewUpgrade prepares the request's connection. Nothing happens on it before Open.
func NewUpgrade(ctx context.Context, w http.ResponseWriter, r *http.Request) *Upgrade {
	u := &Upgrade{w: w, r: r, gone: make(chan struct{})}
	u.ctx, u.cancel = context.WithCancel(ctx)
	return u
}

// Context ends with the request's, and when the client of an opened stream hangs up.
func (u *Upgrade) Context() context.Context { return u.ctx }

// Opened says whether the answer has been committed.
func (u *Upgrade) Opened() bool { return u.conn != nil }

// Open commits the answer and hands over the connection; see stream.Opener.
func (u *Upgrade) Open(multiplexed bool) (*stream.Client, error) {
	if u.conn != nil {
		return nil, errors.New("stream is open already")
	}
	conn, buf, err := http.NewResponseController(u.w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("hijack connection: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	early, _ := buf.Reader.Peek(buf.Reader.Buffered())
	u.conn = newRawConn(conn, bytes.Clone(early))
	u.stop = watchHangup(conn, u.hangUp)
	if _, err := conn.Write(u.head(multiplexed)); err != nil {
		return nil, fmt.Errorf("write answer: %w", err)
	}
	c := &stream.Client{
		Stdin: u.conn, Stdout: u.conn, Stderr: u.conn,
		Gone:  u.gone,
		Close: u.conn.end,
	}
	if multiplexed {
		frames := rest.NewFramer(u.conn)
		c.Stdout, c.Stderr = frames.Stream(rest.Stdout), frames.Stream(rest.Stderr)
	}
	return c, nil
}

func (u *Upgrade) hangUp() {
	close(u.gone)
	u.cancel()
}

func (u *Upgrade) head(multiplexed bool) []byte {
	var b bytes.Buffer
	h := u.w.Header().Clone()
	h.Set("Content-Type", types.MediaTypeRawStream)
	if _, ok := u.r.Header["Upgrade"]; ok {
		if multiplexed && rest.StreamMediaTypes.In(u.ctx) {
			h.Set("Content-Type", types.MediaTypeMultiplexedStream)
		}
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", "tcp")
		b.WriteString("HTTP/1.1 101 UPGRADED\r\n")
	} else {
		b.WriteString("HTTP/1.1 200 OK\r\n")
	}
	_ = h.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// Close ends an opened stream: it sends the end, waits for a bounded time until the
// client has read everything and closes too, and closes the connection. Without the
// wait, input that nobody read would make the kernel drop output on its way.
func (u *Upgrade) Close() {
	defer u.cancel()
	if u.conn == nil {
		return
	}
	u.stop()
	_ = u.conn.end()
	u.conn.drain()
	_ = u.conn.Conn.Close()
}

// rawConn is a hijacked connection: what was read ahead first, then the socket. Writes
// are safe for concurrent use.
//
// The first write waits for the client to have read the head. Docker's SDK for Python
// reads heads through a buffer and all else from the socket below it, so that what came
// together with the head would be lost.
type rawConn struct {
	net.Conn
	ended atomic.Bool
	first sync.Once

	mu    sync.Mutex // held while reading
	early []byte     // guarded by mu
}

func newRawConn(c net.Conn, early []byte) *rawConn { return &rawConn{Conn: c, early: early} }

func (c *rawConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.Load() {
		return 0, net.ErrClosed
	}
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	switch {
	case err == nil || c.ended.Load() && n > 0:
		return n, err
	case c.ended.Load():
		return n, net.ErrClosed
	case err == io.EOF && hungUp(c.Conn):
		return n, ErrGone
	}
	return n, err
}

func (c *rawConn) Write(p []byte) (int, error) {
	c.first.Do(func() { awaitTaken(c.Conn, patience) })
	return c.Conn.Write(p)
}

// end sends our end of the stream and unblocks Read, once.
func (c *rawConn) end() error {
	if c.ended.Swap(true) {
		return nil
	}
	var err error
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		err = half.CloseWrite()
	}
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	if errors.Is(err, net.ErrClosed) || hungUp(c.Conn) {
		return nil
	}
	return err
}

// drain reads until the client closes. The reader that end unblocked has left, or
// leaves now.
func (c *rawConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.Conn.SetReadDeadline(time.Now().Add(linger))
	_, _ = io.Copy(io.Discard, c.Conn)
}
