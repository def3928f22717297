package container

import (
	"context"
	"net/http"

	"golang.org/x/net/websocket"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/api/stream"
	"gantry/router/httputil"
	"gantry/router/route"
)

// getAttachWS is attach over a WebSocket. Its frames are never multiplexed: both
// output streams go to the one connection.
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ws := &webSocket{w: w, req: req, binary: rest.WebSocketBinary.In(ctx), done: make(chan struct{})}
	defer ws.close()
	o.Open = ws.open
	return r.backend.Attach(ctx, route.Var(req, "name"), o)
}

// webSocket is one connection: x/net's server owns it in a goroutine of its own, from
// open to close.
type webSocket struct {
	w      http.ResponseWriter
	req    *http.Request
	binary bool
	done   chan struct{} // closed by close: ends the server's handler
	served chan struct{} // closed when the server has left; nil before open
}

func (s *webSocket) open(bool) (*stream.Client, error) {
	conns := make(chan *websocket.Conn, 1)
	s.served = make(chan struct{})
	srv := websocket.Server{Handler: func(c *websocket.Conn) {
		conns <- c
		<-s.done
	}}
	go func() {
		defer close(s.served)
		srv.ServeHTTP(s.w, s.req)
	}()
	select {
	case c := <-conns:
		if s.binary {
			c.PayloadType = websocket.BinaryFrame
		}
		return &stream.Client{Stdin: c, Stdout: c, Stderr: c, Close: c.Close}, nil
	case <-s.served:
		return nil, errdefs.InvalidArgument("bad WebSocket handshake")
	}
}

func (s *webSocket) close() {
	close(s.done)
	if s.served != nil {
		<-s.served
	}
}
