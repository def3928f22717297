// Package transfer serves containerd.services.transfer.v1 on a transfer.Transferrer. What
// goes to and fro beside the call (archives, progress, credentials) does so on streams
// that the client has opened before and names in its request.
package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	api "github.com/containerd/containerd/api/services/transfer/v1"
	transfertypes "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/stream"
	"gantry/libctr/core/stream/bytestream"
	"gantry/libctr/core/transfer"
	"gantry/libctr/core/wire"
)

// Service adapts a transferrer.
type Service struct {
	api.UnimplementedTransferServer
	transferrer transfer.Transferrer
	streams     stream.Getter
	log         *slog.Logger
}

// New returns the service.
func New(t transfer.Transferrer, streams stream.Getter, log *slog.Logger) *Service {
	return &Service{transferrer: t, streams: streams, log: log}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterTransferServer(r, s) }

// Transfer returns when everything has been moved; the streams of the request are at an
// end then.
func (s *Service) Transfer(ctx context.Context, r *api.TransferRequest) (*emptypb.Empty, error) {
	c := &call{service: s}
	// A stream that its client has left open would be waited for.
	defer context.AfterFunc(ctx, c.close)()
	defer c.close()
	if err := c.run(ctx, r); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &emptypb.Empty{}, nil
}

// call is one request.
type call struct {
	service *Service

	mu     sync.Mutex
	opened []stream.Stream // guarded by mu
	closed bool            // guarded by mu
}

func (c *call) close() {
	c.mu.Lock()
	opened := c.opened
	c.opened, c.closed = nil, true
	c.mu.Unlock()
	for _, s := range opened {
		if err := s.Close(); err != nil {
			c.service.log.Debug("close stream", "err", err)
		}
	}
}

// stream finds a stream that the client has opened; it ends with the call.
func (c *call) stream(ctx context.Context, id string) (stream.Stream, error) {
	s, err := c.service.streams.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ctx.Err()
	}
	c.opened = append(c.opened, s)
	return s, nil
}

func (c *call) run(ctx context.Context, r *api.TransferRequest) error {
	var o transfer.Options
	if id := r.GetOptions().GetProgressStream(); id != "" {
		s, err := c.stream(ctx, id)
		if err != nil {
			return err
		}
		o.Progress = c.progress(ctx, s)
	}
	source, err := c.end(ctx, r.GetSource())
	if err != nil {
		return err
	}
	destination, err := c.end(ctx, r.GetDestination())
	if err != nil {
		return err
	}
	if source == nil || destination == nil {
		return errdefs.NotImplemented("method Transfer not implemented for %s to %s", r.GetSource().GetTypeUrl(), r.GetDestination().GetTypeUrl())
	}
	return c.service.transferrer.Transfer(ctx, source, destination, o)
}

// progress sends what is heard; a client that does not listen any more is none's business.
func (c *call) progress(ctx context.Context, s stream.Stream) func(transfer.Progress) {
	failed := false
	return func(p transfer.Progress) {
		if failed {
			return
		}
		a, err := typeurl.MarshalAny(wire.Progress(p))
		if err == nil {
			err = s.Send(a)
		}
		if err != nil {
			failed = true
			c.service.log.DebugContext(ctx, "send progress", "event", p.Event, "err", err)
		}
	}
}

// end is what a message stands for; nil for a type that is not known.
func (c *call) end(ctx context.Context, a *anypb.Any) (transfer.End, error) {
	var store transfertypes.ImageStore
	var registry transfertypes.OCIRegistry
	var in transfertypes.ImageImportStream
	var out transfertypes.ImageExportStream
	switch {
	case typeurl.Is(a, &store):
		if err := decode(a, &store); err != nil {
			return nil, err
		}
		return wire.FromImageStore(&store), nil
	case typeurl.Is(a, &registry):
		if err := decode(a, &registry); err != nil {
			return nil, err
		}
		return c.registry(ctx, &registry)
	case typeurl.Is(a, &in):
		if err := decode(a, &in); err != nil {
			return nil, err
		}
		s, err := c.stream(ctx, in.GetStream())
		if err != nil {
			return nil, fmt.Errorf("import stream: %w", err)
		}
		return &transfer.Import{Stream: bytestream.NewReader(s), MediaType: in.GetMediaType(), ForceCompress: in.GetForceCompress()}, nil
	case typeurl.Is(a, &out):
		if err := decode(a, &out); err != nil {
			return nil, err
		}
		s, err := c.stream(ctx, out.GetStream())
		if err != nil {
			return nil, fmt.Errorf("export stream: %w", err)
		}
		e := wire.FromExport(&out)
		e.Stream = bytestream.NewWriter(s)
		return e, nil
	}
	return nil, nil
}

func decode(a *anypb.Any, m any) error {
	if err := typeurl.UnmarshalTo(a, m); err != nil {
		return errdefs.InvalidArgument("decode %s: %w", a.GetTypeUrl(), err)
	}
	return nil
}

func (c *call) registry(ctx context.Context, m *transfertypes.OCIRegistry) (transfer.End, error) {
	r := wire.FromRegistry(m)
	if id := m.GetResolver().GetAuthStream(); id != "" {
		s, err := c.stream(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("credentials stream: %w", err)
		}
		r.Credentials = &credentials{stream: s, turn: make(chan struct{}, 1)}
	}
	if id := m.GetResolver().GetLogsStream(); id != "" && r.Debug != transfer.DebugNone {
		s, err := c.stream(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("log stream: %w", err)
		}
		r.DebugLog = bytestream.NewWriter(s)
	}
	return r, nil
}
