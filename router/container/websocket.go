package container

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/api/stream"
	"gantry/router/httputil"
	"gantry/router/route"
)

// getAttachWS is attach over a WebSocket. Its frames are never multiplexed: both
// output streams go to the one connection. As with dockerd any origin may connect, also
// clients that are no browser and name one of their fancy.
func (r *Router) getAttachWS(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	o := apicontainer.AttachOptions{
		Stdin: true, Stdout: true, Stderr: true,
		Logs:       httputil.Bool(req, "logs"),
		Stream:     httputil.Bool(req, "stream"),
		DetachKeys: req.Form.Get("detachKeys"),
	}
	if rest.WebSocketStreams.In(ctx) {
		o.Stdin, o.Stdout, o.Stderr = httputil.Bool(req, "stdin"), httputil.Bool(req, "stdout"), httputil.Bool(req, "stderr")
	}
	ws := &webSocket{w: w, req: req, stdin: o.Stdin, typ: websocket.MessageText}
	if rest.WebSocketBinary.In(ctx) {
		ws.typ = websocket.MessageBinary
	}
	ws.ctx, ws.cancel = context.WithCancel(ctx)
	defer ws.end()
	o.Open = ws.open
	return r.backend.Attach(ws.ctx, route.Var(req, "name"), o)
}

// webSocket is one connection. Messages are read as they come and have no length for
// us; a frame's control data is bounded by the protocol.
type webSocket struct {
	w      http.ResponseWriter
	req    *http.Request
	stdin  bool                  // somebody reads what the client sends
	typ    websocket.MessageType // of what is sent; either is taken
	ctx    context.Context       // ends when the client has left
	cancel context.CancelFunc

	conn  *websocket.Conn // nil before open
	input sync.WaitGroup
	once  sync.Once
}

// open is a stream.Opener.
func (s *webSocket) open(bool) (*stream.Client, error) {
	conn, err := websocket.Accept(upgrading{s.w}, s.req, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		for _, set := range []string{"Connection", "Upgrade", "Sec-WebSocket-Version", "X-Content-Type-Options"} {
			s.w.Header().Del(set)
		}
		return nil, errdefs.InvalidArgument("bad WebSocket handshake: %w", err)
	}
	conn.SetReadLimit(-1)
	s.conn = conn
	r, w := io.Pipe()
	s.input.Go(func() { s.pump(w) }) // ends with the connection
	out := wsWriter{s}
	return &stream.Client{Stdin: r, Stdout: out, Stderr: out, Gone: s.ctx.Done(), Close: func() error {
		r.CloseWithError(httputil.ErrGone)
		s.close()
		return nil
	}}, nil
}

// upgrading lets the answer through by which the protocol is changed; a refusal is the
// server's to write, as any error.
type upgrading struct{ http.ResponseWriter }

func (u upgrading) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		u.ResponseWriter.WriteHeader(status)
	}
}

func (u upgrading) Write(p []byte) (int, error) { return len(p), nil }

// Hijack implements http.Hijacker.
func (u upgrading) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(u.ResponseWriter).Hijack()
}

// pump carries messages to w. It reads also where nobody listens, since pings and the
// client's end come the same way.
func (s *webSocket) pump(w *io.PipeWriter) {
	defer s.cancel()
	for {
		_, message, err := s.conn.Reader(context.Background()) // ends with the connection
		if err == nil {
			var to io.Writer = io.Discard
			if s.stdin {
				to = w
			}
			_, err = io.Copy(to, message)
		}
		switch {
		case websocket.CloseStatus(err) != -1: // its end, said properly
			w.Close()
			return
		case err != nil:
			w.CloseWithError(httputil.ErrGone)
			return
		}
	}
}

// close sends our end and waits, for a bounded time, for the client's.
func (s *webSocket) close() {
	s.once.Do(func() { s.conn.Close(websocket.StatusNormalClosure, "") }) //nolint:errcheck // a client that has left
}

func (s *webSocket) end() {
	s.cancel()
	if s.conn != nil {
		s.close()
		s.input.Wait()
	}
}

// wsWriter sends each write as a message. Safe for concurrent use.
type wsWriter struct{ s *webSocket }

func (w wsWriter) Write(p []byte) (int, error) {
	if err := w.s.conn.Write(w.s.ctx, w.s.typ, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
