package task

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/api/unixsocket"
)

// writeTimeout bounds a write to a shim that no longer reads. A write that
// exceeds it ends the connection, since part of a frame may be out.
const writeTimeout = 5 * time.Second

// conn is one connection to a shim. It speaks the task API in the version the
// shim asked for; 2 and 3 have the same messages under another service name.
type conn struct {
	transport
	service string
	tracer  trace.Tracer
}

// connect dials once. closed runs in its own goroutine when the connection has
// ended, for whatever reason.
func connect(ctx context.Context, b bootstrap, tracer trace.Tracer, closed func()) (*conn, error) {
	nc, err := dialShim(ctx, b.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to shim at %s: %w", b.Address, err)
	}
	t, err := newTransport(b.Protocol, boundedWrites{nc}, closed)
	if err != nil {
		return nil, fmt.Errorf("connect to shim at %s: %w", b.Address, err)
	}
	return &conn{transport: t, service: b.service(), tracer: tracer}, nil
}

// speaking is the same connection, used in another version of the task API.
func (c *conn) speaking(b bootstrap) *conn {
	return &conn{transport: c.transport, service: b.service(), tracer: c.tracer}
}

// dialShim takes "unix://PATH"; an address without a scheme is that of an old
// shim, in the abstract name space.
func dialShim(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return d.DialContext(ctx, "unix", "@"+strings.TrimLeft(address, "@\x00"))
	}
	name, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, err
	}
	defer release()
	return d.DialContext(ctx, "unix", name)
}

// boundedWrites is a connection whose writes fail, and end it, after writeTimeout.
type boundedWrites struct{ net.Conn }

func (c boundedWrites) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close() // ends the reader too, which reports the loss
	}
	return n, err
}

// call makes one call of the task API, bounded by timeout (0: by ctx alone). It returns
// in time even when the shim does not read from its socket; the sender then ends with
// writeTimeout. resp belongs to the caller only when the error is nil.
func (c *conn) call(ctx context.Context, timeout time.Duration, method string, req, resp any) error {
	return c.callService(ctx, timeout, c.service, method, req, resp)
}

// callService is call, of another service of the shim.
func (c *conn) callService(ctx context.Context, timeout time.Duration, service, method string, req, resp any) (err error) {
	ctx, span := c.tracer.Start(ctx, service+"/"+method, trace.WithSpanKind(trace.SpanKindClient))
	defer func() { endSpan(span, err) }()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	done := make(chan error, 1)
	go func() { done <- c.invoke(ctx, service, method, notes(ctx), req, resp) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("shim does not answer %s: %w", method, ctx.Err())
		}
		return ctx.Err()
	}
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(otelcodes.Error, err.Error())
	}
	span.End()
}

// errClosed is what calls on a lost connection fail with.
var errClosed = errdefs.Unavailable("connection to shim is closed")

// noteNamespace is the key that the namespace has beside a request; see transport.
const noteNamespace = "containerd-namespace"

// notes are the namespace, the request id and the trace of ctx, to be sent beside a
// request.
func notes(ctx context.Context) map[string]string {
	md := propagation.MapCarrier{}
	if ns := reqctx.Namespace(ctx); ns != "" {
		md[noteNamespace] = ns
	}
	if id := reqctx.RequestID(ctx); id != "" {
		md["gantry-request-id"] = id
	}
	propagation.TraceContext{}.Inject(ctx, md)
	return md
}
