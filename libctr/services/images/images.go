// Package images serves containerd.services.images.v1 on an image.Store.
package images

import (
	"context"
	"log/slog"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/images/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/event"
	"gantry/libctr/core/image"
	"gantry/libctr/core/wire"
	"gantry/libctr/services/notify"
)

// Service adapts a store. Events: /images/create, update, delete. The requests'
// source_date_epoch is not heeded: times are those of the record.
type Service struct {
	api.UnimplementedImagesServer
	store  image.Store
	notify notify.Publisher
}

// New returns the service; events and log may be nil.
func New(store image.Store, events event.Publisher, log *slog.Logger) *Service {
	return &Service{store: store, notify: notify.Publisher{Events: events, Log: log}}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterImagesServer(r, s) }

func (s *Service) Get(ctx context.Context, r *api.GetImageRequest) (*api.GetImageResponse, error) {
	i, err := s.store.Get(ctx, r.GetName())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.GetImageResponse{Image: wire.Image(i)}, nil
}

func (s *Service) List(ctx context.Context, r *api.ListImagesRequest) (*api.ListImagesResponse, error) {
	if e, ok := s.store.(wire.EncodedLister); ok {
		images, err := e.ListEncoded(ctx, r.GetFilters()...)
		out := new(api.ListImagesResponse)
		wire.Embed(out, images...)
		return out, rpcstatus.To(err)
	}
	list, err := s.store.List(ctx, r.GetFilters()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.ListImagesResponse{Images: make([]*api.Image, len(list))}
	for n, i := range list {
		out.Images[n] = wire.Image(i)
	}
	return out, nil
}

func (s *Service) Create(ctx context.Context, r *api.CreateImageRequest) (*api.CreateImageResponse, error) {
	if r.GetImage().GetName() == "" {
		return nil, rpcstatus.To(errdefs.InvalidArgument("Image.Name required"))
	}
	i, err := s.store.Create(ctx, wire.FromImage(r.GetImage()))
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/images/create", &containerdevents.ImageCreate{Name: i.Name, Labels: i.Labels})
	return &api.CreateImageResponse{Image: wire.Image(i)}, nil
}

func (s *Service) Update(ctx context.Context, r *api.UpdateImageRequest) (*api.UpdateImageResponse, error) {
	if r.GetImage().GetName() == "" {
		return nil, rpcstatus.To(errdefs.InvalidArgument("Image.Name required"))
	}
	i, err := s.store.Update(ctx, wire.FromImage(r.GetImage()), r.GetUpdateMask().GetPaths()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/images/update", &containerdevents.ImageUpdate{Name: i.Name, Labels: i.Labels})
	return &api.UpdateImageResponse{Image: wire.Image(i)}, nil
}

func (s *Service) Delete(ctx context.Context, r *api.DeleteImageRequest) (*emptypb.Empty, error) {
	var target *ocispec.Descriptor
	if r.Target != nil {
		d := wire.FromDescriptor(r.Target)
		target = &d
	}
	if err := s.store.Delete(ctx, r.GetName(), r.GetSync(), target); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/images/delete", &containerdevents.ImageDelete{Name: r.GetName()})
	return &emptypb.Empty{}, nil
}
