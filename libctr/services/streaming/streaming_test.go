package streaming

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/containerd/containerd/api/services/streaming/v1"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/libctr/core/stream"
	"gantry/libctr/core/wire"
)

// deaf is a client that reads the first message and no more.
type deaf struct {
	api.Streaming_StreamServer
	ctx  context.Context
	sent int
}

func (d *deaf) Context() context.Context { return d.ctx }

func (d *deaf) Recv() (*anypb.Any, error) {
	a, err := typeurl.MarshalAny(&api.StreamInit{ID: "x"})
	if err != nil {
		return nil, err
	}
	return wire.Any(a), nil
}

func (d *deaf) Send(*anypb.Any) error {
	if d.sent++; d.sent == 1 {
		return nil
	}
	<-d.ctx.Done() // gRPC ends it when the handler returns
	return d.ctx.Err()
}

type only struct{ got chan stream.Stream }

func (o only) Register(_ context.Context, _ string, s stream.Stream) (func(), error) {
	o.got <- s
	return func() {}, nil
}

// TestDeafClient ends a stream whose client takes nothing, with its sender.
func TestDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		registry := only{make(chan stream.Stream, 1)}
		returned := make(chan error, 1)
		go func() {
			err := New(registry).Stream(&deaf{ctx: ctx})
			cancel()
			returned <- err
		}()
		s := <-registry.got
		synctest.Wait()
		progress, err := typeurl.MarshalAny(&emptypb.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- s.Send(progress) }()
		synctest.Wait()
		start := time.Now()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-returned; err == nil || time.Since(start) != patience {
			t.Errorf("the call ends after %v: %v", time.Since(start), err)
		}
		if err := <-sent; err == nil {
			t.Error("the sender has not been told")
		}
		if err := s.Send(progress); !errors.Is(err, errOver) {
			t.Errorf("send afterwards: %v", err)
		}
	})
}
