package task

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gantry/api/rpcstatus"
)

// Protocols of shims.
const (
	protocolTTRPC = "ttrpc"
	protocolGRPC  = "grpc"
)

// transport carries unary calls over one connection to a shim. Safe for concurrent use.
type transport interface {
	// invoke makes one call with what notes say beside the request; it fails with
	// errClosed when the connection is lost.
	invoke(ctx context.Context, service, method string, notes map[string]string, req, resp any) error
	close()
	// ended is closed when the connection has ended, for whatever reason.
	ended() <-chan struct{}
}

// newTransport takes the connection over. closed runs in its own goroutine when the
// connection has ended.
func newTransport(protocol string, nc net.Conn, closed func()) (transport, error) {
	done := make(chan struct{})
	if protocol == protocolGRPC {
		return newGRPC(nc, done, closed)
	}
	return ttrpcTransport{done: done, Client: ttrpc.NewClient(nc, ttrpc.WithOnClose(func() {
		close(done)
		go closed()
	}))}, nil
}

type ttrpcTransport struct {
	*ttrpc.Client
	done chan struct{}
}

func (t ttrpcTransport) invoke(ctx context.Context, service, method string, notes map[string]string, req, resp any) error {
	md := make(ttrpc.MD, len(notes))
	for k, v := range notes {
		if k == noteNamespace {
			k = "containerd-namespace-ttrpc"
		}
		md.Set(k, v)
	}
	err := t.Call(ttrpc.WithMetadata(ctx, md), service, method, req, resp)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ttrpc.ErrClosed), errors.Is(err, ttrpc.ErrStreamClosed), errors.Is(err, net.ErrClosed),
		errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return errClosed
	}
	return rpcstatus.From(err)
}

func (t ttrpcTransport) close() { _ = t.Close() }

func (t ttrpcTransport) ended() <-chan struct{} { return t.done }

// grpcTransport keeps to the one connection that it was given: what it means when that is
// lost is not the library's to say.
type grpcTransport struct {
	*grpc.ClientConn
	nc   net.Conn
	done chan struct{}
}

func newGRPC(nc net.Conn, done chan struct{}, closed func()) (transport, error) {
	nc = &lastWords{Conn: nc, said: func() {
		close(done)
		go closed()
	}}
	var taken atomic.Bool
	c, err := grpc.NewClient("passthrough:///shim",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if taken.Swap(true) {
				return nil, errClosed
			}
			return nc, nil
		}))
	if err != nil {
		nc.Close()
		return nil, err
	}
	c.Connect()
	return grpcTransport{c, nc, done}, nil
}

// closeGrace is how long after a failed call the end of its connection may be noticed.
const closeGrace = 100 * time.Millisecond

func (t grpcTransport) invoke(ctx context.Context, service, method string, notes map[string]string, req, resp any) error {
	md := make(metadata.MD, len(notes))
	for k, v := range notes {
		md.Set(k, v)
	}
	err := t.Invoke(metadata.NewOutgoingContext(ctx, md), "/"+service+"/"+method, req, resp)
	if status.Code(err) == codes.Unavailable || status.Code(err) == codes.Canceled && ctx.Err() == nil {
		select {
		case <-t.done:
			return errClosed
		case <-time.After(closeGrace): // the shim itself says so
		}
	}
	return rpcstatus.From(err)
}

func (t grpcTransport) close() {
	_ = t.ClientConn.Close()
	_ = t.nc.Close() // it may not have been dialled yet
}

func (t grpcTransport) ended() <-chan struct{} { return t.done }

// lastWords tells, once, that a connection was closed.
type lastWords struct {
	net.Conn
	once sync.Once
	said func()
}

func (c *lastWords) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.said)
	return err
}
