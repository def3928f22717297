package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"gantry/api/errdefs"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
)

// stallTime is how long a registry may be silent: before it answers a request that has no
// body, and within a body of its own.
const stallTime = 2 * time.Minute

// errStalled is of a registry that is silent for too long.
var errStalled = errors.New("the registry sends nothing any more")

// transport bounds answers, and shows them to whoever debugs.
type transport struct {
	debug transfer.Debug
	out   io.Writer
	log   *slog.Logger

	mu     sync.Mutex
	opened []interface{ CloseIdleConnections() } // guarded by mu
}

// wrap is called for each client that the resolver makes.
func (t *transport) wrap(c *http.Client) error {
	inner := c.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	if _, done := inner.(*guard); done { // a client of a host is made of the wrapped one
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if closer, ok := inner.(interface{ CloseIdleConnections() }); ok && inner != http.DefaultTransport {
		t.opened = append(t.opened, closer)
	}
	c.Transport = &guard{inner: dumping(inner, t)}
	return nil
}

func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.opened {
		o.CloseIdleConnections()
	}
	t.opened = nil
}

// guard bounds answers.
type guard struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stall := time.AfterFunc(stallTime, func() { cancel(errStalled) })
	if r.Body != nil && r.Body != http.NoBody { // the answer comes after it, whatever time it takes
		stall.Stop()
	}
	resp, err := g.inner.RoundTrip(withoutZstd(r.WithContext(ctx)))
	stall.Stop() // until somebody reads
	if err == nil && isZstd(resp) {
		err = errors.Join(errdefs.FailedPrecondition("the registry has compressed its answer with zstd, unasked"), resp.Body.Close())
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, err
	}
	b := &body{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, stall: stall, left: -1}
	if isDocument(r, resp) {
		b.left = manifest.MaxSize
	}
	resp.Body = b
	return resp, nil
}

// withoutZstd does not ask for zstd, whose windows the resolver does not bound: a few bytes
// of an answer could take half a gigabyte.
func withoutZstd(r *http.Request) *http.Request {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "zstd") {
		r.Header = r.Header.Clone()
		r.Header.Set("Accept-Encoding", "gzip, deflate;q=0.5")
	}
	return r
}

func isZstd(resp *http.Response) bool {
	return strings.Contains(strings.ToLower(strings.Join(resp.Header.Values("Content-Encoding"), ",")), "zstd")
}

// forToken is the key of a context in which the authorizer asks for a token: from wherever
// the registry has said.
type forToken struct{}

// isDocument says whether the answer is to be small: anything but a blob, as it was asked
// for before any redirect.
func isDocument(r *http.Request, resp *http.Response) bool {
	if resp.StatusCode >= http.StatusBadRequest || r.Context().Value(forToken{}) != nil {
		return true
	}
	for r.Response != nil {
		r = r.Response.Request
	}
	return !strings.Contains(r.URL.Path, "/blobs/")
}

// body ends when it stalls or is too long.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  *time.Timer
	left   int64 // -1 for any number
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errdefs.ResourceExhausted("the registry's answer has more than %d bytes", manifest.MaxSize)
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	b.stall.Reset(stallTime)
	n, err := b.ReadCloser.Read(p)
	b.stall.Stop()
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err != nil && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.stall.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
