// Package content serves containerd.services.content.v1 on a content.Store.
package content

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/content"
	"gantry/libctr/core/event"
	"gantry/libctr/core/wire"
	"gantry/libctr/services/notify"
)

const (
	chunk = 1 << 20 // bytes of a blob in one message of Read
	page  = 100     // blobs in one message of List
)

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// Service adapts a store. Events: /content/create, /content/delete.
type Service struct {
	api.UnimplementedContentServer
	store  content.Store
	notify notify.Publisher
}

// New returns the service; events and log may be nil.
func New(store content.Store, events event.Publisher, log *slog.Logger) *Service {
	return &Service{store: store, notify: notify.Publisher{Events: events, Log: log}}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterContentServer(r, s) }

func parse(d string) (digest.Digest, error) {
	out, err := digest.Parse(d)
	if err != nil {
		return "", rpcstatus.To(errdefs.InvalidArgument("%q failed validation", d))
	}
	return out, nil
}

func (s *Service) Info(ctx context.Context, r *api.InfoRequest) (*api.InfoResponse, error) {
	d, err := parse(r.GetDigest())
	if err != nil {
		return nil, err
	}
	info, err := s.store.Info(ctx, d)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.InfoResponse{Info: wire.ContentInfo(info)}, nil
}

func (s *Service) Update(ctx context.Context, r *api.UpdateRequest) (*api.UpdateResponse, error) {
	if _, err := parse(r.GetInfo().GetDigest()); err != nil {
		return nil, err
	}
	info, err := s.store.Update(ctx, wire.FromContentInfo(r.GetInfo()), r.GetUpdateMask().GetPaths()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.UpdateResponse{Info: wire.ContentInfo(info)}, nil
}

func (s *Service) List(r *api.ListContentRequest, stream api.Content_ListServer) error {
	var batch []*api.Info
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := stream.Send(&api.ListContentResponse{Info: batch})
		batch = nil
		return err
	}
	err := s.store.Walk(stream.Context(), func(i content.Info) error {
		if batch = append(batch, wire.ContentInfo(i)); len(batch) < page {
			return nil
		}
		return flush()
	}, r.GetFilters()...)
	if err != nil {
		return rpcstatus.To(err)
	}
	return flush()
}

func (s *Service) Delete(ctx context.Context, r *api.DeleteContentRequest) (*emptypb.Empty, error) {
	d, err := digest.Parse(r.GetDigest())
	if err != nil {
		return nil, rpcstatus.To(errdefs.InvalidArgument("%w", err))
	}
	if err := s.store.Delete(ctx, d); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/content/delete", &containerdevents.ContentDelete{Digest: d.String()})
	return &emptypb.Empty{}, nil
}

// Read sends the part from offset; a size of 0, or one past the end, means up to
// the end.
func (s *Service) Read(r *api.ReadContentRequest, stream api.Content_ReadServer) error {
	d, err := digest.Parse(r.GetDigest())
	if err != nil {
		return rpcstatus.To(errdefs.InvalidArgument("%s: %w", r.GetDigest(), err))
	}
	ra, err := s.store.ReaderAt(stream.Context(), ocispec.Descriptor{Digest: d})
	if err != nil {
		return rpcstatus.To(err)
	}
	defer ra.Close()
	offset := max(r.GetOffset(), 0)
	if offset > ra.Size() {
		return rpcstatus.To(errdefs.WithClass(errdefs.ErrOutOfRange,
			fmt.Errorf("read past object length %d bytes", ra.Size())))
	}
	size := r.GetSize()
	if left := ra.Size() - offset; size <= 0 || size > left {
		size = left
	}
	return rpcstatus.To(send(stream, io.NewSectionReader(ra, offset, size)))
}

func send(stream api.Content_ReadServer, r io.Reader) error {
	offset := int64(0)
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for {
		n, err := io.ReadFull(r, *buf)
		if n > 0 {
			// gRPC has encoded the message when Send returns: the buffer is free again.
			if err := stream.Send(&api.ReadContentResponse{Offset: offset, Data: (*buf)[:n]}); err != nil {
				return err
			}
			offset += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *Service) Status(ctx context.Context, r *api.StatusRequest) (*api.StatusResponse, error) {
	st, err := s.store.Status(ctx, r.GetRef())
	if err != nil {
		return nil, rpcstatus.To(fmt.Errorf("could not get status for ref %q: %w", r.GetRef(), err))
	}
	return &api.StatusResponse{Status: wire.ContentStatus(st)}, nil
}

func (s *Service) ListStatuses(ctx context.Context, r *api.ListStatusesRequest) (*api.ListStatusesResponse, error) {
	list, err := s.store.ListStatuses(ctx, r.GetFilters()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.ListStatusesResponse{Statuses: make([]*api.Status, len(list))}
	for i, st := range list {
		out.Statuses[i] = wire.ContentStatus(st)
	}
	return out, nil
}

func (s *Service) Abort(ctx context.Context, r *api.AbortRequest) (*emptypb.Empty, error) {
	if err := s.store.Abort(ctx, r.GetRef()); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &emptypb.Empty{}, nil
}
