package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	streamingapi "github.com/containerd/containerd/api/services/streaming/v1"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"

	corestream "gantry/libctr/core/stream"
	"gantry/libctr/core/wire"
)

// Streams opens streams for calls that take some.
func (c *Client) Streams() corestream.Creator { return Streams(c.conn) }

// Streams is the same on a connection with this package's interceptors.
func Streams(conn grpc.ClientConnInterface) corestream.Creator {
	return streams{streamingapi.NewStreamingClient(conn)}
}

type streams struct{ rpc streamingapi.StreamingClient }

// Create implements stream.Creator.
func (c streams) Create(ctx context.Context, id string) (_ corestream.Stream, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	s, err := c.rpc.Stream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	a, err := typeurl.MarshalAny(&streamingapi.StreamInit{ID: id})
	if err != nil {
		return nil, err
	}
	if err := s.Send(wire.Any(a)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("open stream %q: %w", id, err)
	}
	if _, err := s.Recv(); err != nil { // that the core knows it, or why not
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("open stream %q: %w", id, err)
	}
	return &clientStream{s: s, cancel: cancel}, nil
}

// clientStream is a client's end.
type clientStream struct {
	s      streamingapi.Streaming_StreamClient
	cancel context.CancelFunc

	mu sync.Mutex // one sends or closes at a time
}

// Send implements stream.Stream.
func (s *clientStream) Send(a typeurl.Any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s.Send(wire.Any(a))
}

// Recv implements stream.Stream. After an error the call is over.
func (s *clientStream) Recv() (typeurl.Any, error) {
	a, err := s.s.Recv()
	if err != nil {
		s.cancel()
		return nil, err
	}
	return a, nil
}

// Close implements stream.Stream.
func (s *clientStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s.CloseSend()
}
