// Package streaming serves containerd.services.streaming.v1: a client's first message
// names the stream, the core's first one says that it is known, what follows is between
// the client and the call that it gives the name to.
package streaming

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/services/streaming/v1"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/stream"
	"gantry/libctr/core/wire"
)

// Registry is where streams wait for the call that uses them.
type Registry interface {
	Register(ctx context.Context, id string, s stream.Stream) (forget func(), err error)
}

// patience is how long a stream may take to say its name, and to take what was sent to it
// before it was closed.
const patience = 10 * time.Second

// Service adapts a registry.
type Service struct {
	api.UnimplementedStreamingServer
	registry Registry
}

// New returns the service.
func New(r Registry) *Service { return &Service{registry: r} }

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterStreamingServer(r, s) }

// Stream returns when the core has closed the stream, or with an error when the client has
// gone or the core stops.
func (s *Service) Stream(srv api.Streaming_StreamServer) error {
	id, err := name(srv)
	if err != nil {
		return rpcstatus.To(err)
	}
	str := &serverStream{srv: srv, turn: make(chan struct{}, 1), closed: make(chan struct{})}
	forget, err := s.registry.Register(srv.Context(), id, str)
	if err != nil {
		return rpcstatus.To(err)
	}
	defer forget()
	ack, err := typeurl.MarshalAny(&emptypb.Empty{})
	if err != nil {
		return rpcstatus.To(err)
	}
	if err := str.Send(ack); err != nil {
		return err
	}
	select {
	case <-srv.Context().Done(): // what was sent may not be all
		return rpcstatus.To(context.Cause(srv.Context()))
	case <-str.closed:
		return rpcstatus.To(str.finish())
	}
}

// name receives the stream's id, within a bounded time.
func name(srv api.Streaming_StreamServer) (string, error) {
	type first struct {
		a   *anypb.Any
		err error
	}
	came := make(chan first, 1)
	go func() { // ends with the message, or with the call that returns
		a, err := srv.Recv()
		came <- first{a, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-timer.C:
		return "", errdefs.InvalidArgument("the stream has not said its id")
	case f := <-came:
		if f.err != nil {
			return "", f.err
		}
		var m api.StreamInit
		if err := typeurl.UnmarshalTo(f.a, &m); err != nil {
			return "", errdefs.InvalidArgument("the stream's first message is no id: %w", err)
		}
		return m.GetID(), nil
	}
}

// serverStream is the core's end.
type serverStream struct {
	srv    api.Streaming_StreamServer
	once   sync.Once
	closed chan struct{}
	// turn holds a token while somebody sends, and for ever when the call returns.
	turn chan struct{}
}

var errOver = errdefs.FailedPrecondition("the stream has been closed")

// Send implements stream.Stream.
func (s *serverStream) Send(a typeurl.Any) error {
	select {
	case <-s.closed:
		return errOver
	case s.turn <- struct{}{}:
	}
	defer func() { <-s.turn }()
	select {
	case <-s.closed: // who waits for a turn may get it afterwards
		return errOver
	default:
	}
	return classed(s.srv.Send(wire.Any(a)))
}

// finish waits for a sender and lets no other in: nothing is sent on a call that has
// returned. A client that takes nothing has its sender cut off by the return.
func (s *serverStream) finish() error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-timer.C:
		return errdefs.Unavailable("the stream does not take what is sent")
	}
}

// Recv implements stream.Stream.
func (s *serverStream) Recv() (typeurl.Any, error) {
	a, err := s.srv.Recv()
	if err != nil {
		return nil, classed(err)
	}
	return a, nil
}

// Close implements stream.Stream.
func (s *serverStream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func classed(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return rpcstatus.From(err)
}
