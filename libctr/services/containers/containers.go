// Package containers serves containerd.services.containers.v1 on a container.Store.
package containers

import (
	"context"
	"log/slog"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/containers/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/core/wire"
	"gantry/libctr/services/notify"
)

// Service adapts a store. Events: /containers/create, update, delete.
type Service struct {
	api.UnimplementedContainersServer
	store  container.Store
	notify notify.Publisher
}

// New returns the service; events and log may be nil.
func New(store container.Store, events event.Publisher, log *slog.Logger) *Service {
	return &Service{store: store, notify: notify.Publisher{Events: events, Log: log}}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterContainersServer(r, s) }

func (s *Service) Get(ctx context.Context, r *api.GetContainerRequest) (*api.GetContainerResponse, error) {
	c, err := s.store.Get(ctx, r.GetID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.GetContainerResponse{Container: wire.Container(c)}, nil
}

func (s *Service) List(ctx context.Context, r *api.ListContainersRequest) (*api.ListContainersResponse, error) {
	if e, ok := s.store.(wire.EncodedLister); ok {
		containers, err := e.ListEncoded(ctx, r.GetFilters()...)
		out := new(api.ListContainersResponse)
		wire.Embed(out, containers...)
		return out, rpcstatus.To(err)
	}
	list, err := s.store.List(ctx, r.GetFilters()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.ListContainersResponse{Containers: make([]*api.Container, len(list))}
	for i, c := range list {
		out.Containers[i] = wire.Container(c)
	}
	return out, nil
}

func (s *Service) ListStream(r *api.ListContainersRequest, stream api.Containers_ListStreamServer) error {
	if e, ok := s.store.(wire.EncodedLister); ok {
		return streamEncoded(e, r, stream)
	}
	list, err := s.store.List(stream.Context(), r.GetFilters()...)
	if err != nil {
		return rpcstatus.To(err)
	}
	for _, c := range list {
		if err := stream.Send(&api.ListContainerMessage{Container: wire.Container(c)}); err != nil {
			return err
		}
	}
	return nil
}

func streamEncoded(e wire.EncodedLister, r *api.ListContainersRequest, stream api.Containers_ListStreamServer) error {
	containers, err := e.ListEncoded(stream.Context(), r.GetFilters()...)
	if err != nil {
		return rpcstatus.To(err)
	}
	for _, c := range containers {
		m := new(api.ListContainerMessage)
		wire.Embed(m, c)
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) Create(ctx context.Context, r *api.CreateContainerRequest) (*api.CreateContainerResponse, error) {
	if r.GetContainer() == nil {
		return nil, rpcstatus.To(errdefs.InvalidArgument("container must be set"))
	}
	c, err := s.store.Create(ctx, wire.FromContainer(r.GetContainer()))
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/containers/create", &containerdevents.ContainerCreate{
		ID:    c.ID,
		Image: c.Image,
		Runtime: &containerdevents.ContainerCreate_Runtime{
			Name:    c.Runtime.Name,
			Options: wire.Any(c.Runtime.Options),
		},
	})
	return &api.CreateContainerResponse{Container: wire.Container(c)}, nil
}

func (s *Service) Update(ctx context.Context, r *api.UpdateContainerRequest) (*api.UpdateContainerResponse, error) {
	if r.GetContainer().GetID() == "" {
		return nil, rpcstatus.To(errdefs.InvalidArgument("Container.ID required"))
	}
	c, err := s.store.Update(ctx, wire.FromContainer(r.GetContainer()), r.GetUpdateMask().GetPaths()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/containers/update", &containerdevents.ContainerUpdate{
		ID: c.ID, Image: c.Image, Labels: c.Labels, SnapshotKey: c.SnapshotKey,
	})
	return &api.UpdateContainerResponse{Container: wire.Container(c)}, nil
}

func (s *Service) Delete(ctx context.Context, r *api.DeleteContainerRequest) (*emptypb.Empty, error) {
	if err := s.store.Delete(ctx, r.GetID()); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/containers/delete", &containerdevents.ContainerDelete{ID: r.GetID()})
	return &emptypb.Empty{}, nil
}
