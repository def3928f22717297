// Package client speaks the containerd gRPC API and offers it as the interfaces
// of libctr/core, over a unix socket or in memory, to our core or to a real
// containerd. One file per noun; an accessor of Client returns the proxy.
//
// The interceptors of this package carry the namespace, the lease and the
// request id of a context as headers, and turn every status that comes back into
// an error with a class (api/errdefs) and the server's text. Proxies therefore
// return errors as they get them.
package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// MaxMessageSize bounds one gRPC message, in bytes, both ways; containerd's figure.
const MaxMessageSize = 16 << 20

// Client is a connection to a core. It connects when first used and again when
// the connection is lost. Safe for concurrent use.
type Client struct {
	conn   grpc.ClientConnInterface
	closer io.Closer
	ns     string
}

type options struct {
	dial      func(ctx context.Context) (net.Conn, error)
	namespace string
	tracer    trace.TracerProvider
	local     Invoker
}

// Option changes how New connects.
type Option func(*options)

// WithDialer makes the connection through dial, an embedded server's for one;
// the address is then a name only.
func WithDialer(dial func(ctx context.Context) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithNamespace is the namespace of calls whose context has none.
func WithNamespace(ns string) Option { return func(o *options) { o.namespace = ns } }

// WithTracing makes a span of every call.
func WithTracing(tp trace.TracerProvider) Option { return func(o *options) { o.tracer = tp } }

// WithLocal makes unary calls on a server of this process; streams use the connection.
func WithLocal(server Invoker) Option { return func(o *options) { o.local = server } }

// New returns a client of the core at address, the path of a unix socket with or
// without "unix://". It does not wait for the server: see Ready.
func New(address string, opts ...Option) (*Client, error) {
	registerTypes()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	path := strings.TrimPrefix(address, "unix://")
	if o.dial == nil {
		if path == "" {
			return nil, fmt.Errorf("dial core: empty address")
		}
		o.dial = func(ctx context.Context) (net.Conn, error) { return dialUnix(ctx, path) }
	}
	conn, err := grpc.NewClient("passthrough:///core", o.dialOptions()...)
	if err != nil {
		return nil, fmt.Errorf("dial core %s: %w", path, err)
	}
	c := &Client{conn: conn, closer: conn, ns: o.namespace}
	if o.local != nil {
		c.conn = newLocal(conn, o)
	}
	return c, nil
}

func (o options) dialOptions() []grpc.DialOption {
	dial := o.dial
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 50*time.Millisecond, time.Second
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := dial(ctx)
			return conn, plainly(err)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessageSize), grpc.MaxCallSendMsgSize(MaxMessageSize)),
		grpc.WithNoProxy(),
		grpc.WithUnaryInterceptor(unary(o.namespace)),
		grpc.WithStreamInterceptor(stream(o.namespace)),
	}
	if o.tracer != nil {
		opts = append(opts, grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(o.tracer), otelgrpc.WithPropagators(propagation.TraceContext{}))))
	}
	return opts
}

// Conn is the connection itself, for services that have no proxy here. Errors
// that calls on it return have their class already.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Close ends the connection and every call on it.
func (c *Client) Close() error { return c.closer.Close() }
