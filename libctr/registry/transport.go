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

// stallTime is how long a body may yield nothing.
const stallTime = 2 * time.Minute

// errStalled is of a body that yields nothing.
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
	resp, err := g.inner.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b := &body{ReadCloser: resp.Body, cancel: cancel, left: -1}
	if isDocument(r, resp) {
		b.left = manifest.MaxSize
	}
	b.stall = time.AfterFunc(stallTime, func() { cancel(errStalled) })
	b.stall.Stop() // until somebody reads
	b.ctx = ctx
	resp.Body = b
	return resp, nil
}

// isDocument says whether the answer is to be small: anything but a blob.
func isDocument(r *http.Request, resp *http.Response) bool {
	return strings.Contains(r.URL.Path, "/manifests/") || resp.StatusCode >= http.StatusBadRequest
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
