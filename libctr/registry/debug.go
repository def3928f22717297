package registry

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
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
	messages := d.debug == transfer.DebugMessages || d.debug == transfer.DebugBoth
	if messages {
		shown := *r
		shown.URL, shown.Header = withoutSignature(r.URL), withoutSecrets(r.Header)
		if b, err := httputil.DumpRequestOut(&shown, false); err == nil {
			d.write(b)
		}
	}
	if d.debug == transfer.DebugTrace || d.debug == transfer.DebugBoth {
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), d.trace()))
	}
	resp, err := d.inner.RoundTrip(r)
	if err == nil && messages {
		shown := *resp
		shown.Header = withoutSecrets(resp.Header)
		if b, err := httputil.DumpResponse(&shown, false); err == nil {
			d.write(b)
		}
	}
	return resp, err
}

// hidden stands for what lets its reader in.
const hidden = "***"

// withoutSecrets is what may be shown of headers: of credentials the kind alone.
func withoutSecrets(h http.Header) http.Header {
	h = h.Clone()
	for _, key := range []string{"Authorization", "Proxy-Authorization", "X-Registry-Auth", "Cookie", "Set-Cookie"} {
		for i, v := range h[key] {
			if kind, _, ok := strings.Cut(v, " "); ok && strings.HasSuffix(key, "Authorization") {
				h[key][i] = kind + " " + hidden
			} else {
				h[key][i] = hidden
			}
		}
	}
	for i, v := range h["Location"] {
		if u, err := url.Parse(v); err == nil {
			h["Location"][i] = withoutSignature(u).String()
		}
	}
	return h
}

// withoutSignature hides the values by which stores of blobs let in who was redirected.
func withoutSignature(u *url.URL) *url.URL {
	query := u.Query()
	for key := range query {
		low := strings.ToLower(key)
		for _, word := range []string{"sig", "token", "credential", "secret", "password"} {
			if strings.Contains(low, word) {
				query.Set(key, hidden)
			}
		}
	}
	out := *u
	if u.RawQuery != "" {
		out.RawQuery = query.Encode()
	}
	return &out
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
