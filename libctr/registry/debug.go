package registry

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync"

	"gantry/libctr/core/transfer"
)

// dumping shows what goes through inner as t's debug says.
func dumping(inner http.RoundTripper, t *transport) http.RoundTripper {
	if t.debug == transfer.DebugNone {
		return inner
	}
	out := t.out
	if out == nil {
		out = logWriter{t.log}
	}
	return &dumper{inner: inner, debug: t.debug, out: &oneAtATime{w: out}}
}

// dumper writes requests and answers, without the bodies of blobs.
type dumper struct {
	inner http.RoundTripper
	debug transfer.Debug
	out   io.Writer
}

// RoundTrip implements http.RoundTripper. What cannot be shown does not fail.
func (d *dumper) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.debug == transfer.DebugTrace || d.debug == transfer.DebugBoth {
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), d.trace()))
	}
	messages := d.debug == transfer.DebugMessages || d.debug == transfer.DebugBoth
	if messages {
		if b, err := httputil.DumpRequestOut(r, false); err == nil {
			d.write(b)
		}
	}
	resp, err := d.inner.RoundTrip(r)
	if err == nil && messages {
		if b, err := httputil.DumpResponse(resp, false); err == nil {
			d.write(b)
		}
	}
	return resp, err
}

func (d *dumper) write(b []byte) { _, _ = d.out.Write(b) }

func (d *dumper) printf(format string, a ...any) { d.write(fmt.Appendf(nil, format+"\n", a...)) }

func (d *dumper) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(hostPort string) { d.printf("get connection %s", hostPort) },
		GotConn: func(i httptrace.GotConnInfo) {
			d.printf("got connection %s, reused %v", i.Conn.RemoteAddr(), i.Reused)
		},
		DNSDone:     func(i httptrace.DNSDoneInfo) { d.printf("resolved %v, error %v", i.Addrs, i.Err) },
		ConnectDone: func(network, addr string, err error) { d.printf("connected to %s %s, error %v", network, addr, err) },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			d.printf("handshake with %s done, error %v", s.ServerName, err)
		},
		WroteRequest:         func(i httptrace.WroteRequestInfo) { d.printf("wrote request, error %v", i.Err) },
		GotFirstResponseByte: func() { d.printf("got first byte") },
	}
}

// oneAtATime keeps the messages of concurrent requests apart.
type oneAtATime struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (o *oneAtATime) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

type logWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (l logWriter) Write(p []byte) (int, error) {
	l.log.Info("http", "dump", string(p))
	return len(p), nil
}
