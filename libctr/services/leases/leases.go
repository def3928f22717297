// Package leases serves containerd.services.leases.v1 on a lease.Manager.
package leases

import (
	"context"

	api "github.com/containerd/containerd/api/services/leases/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/rpcstatus"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/wire"
)

// Service adapts a manager.
type Service struct {
	api.UnimplementedLeasesServer
	manager lease.Manager
}

// New returns the service.
func New(manager lease.Manager) *Service { return &Service{manager: manager} }

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterLeasesServer(r, s) }

func (s *Service) Create(ctx context.Context, r *api.CreateRequest) (*api.CreateResponse, error) {
	l, err := s.manager.Create(ctx, r.GetID(), r.GetLabels())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.CreateResponse{Lease: wire.Lease(l)}, nil
}

func (s *Service) Delete(ctx context.Context, r *api.DeleteRequest) (*emptypb.Empty, error) {
	return empty(s.manager.Delete(ctx, r.GetID(), r.GetSync()))
}

func (s *Service) List(ctx context.Context, r *api.ListRequest) (*api.ListResponse, error) {
	list, err := s.manager.List(ctx, r.GetFilters()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.ListResponse{Leases: make([]*api.Lease, len(list))}
	for i, l := range list {
		out.Leases[i] = wire.Lease(l)
	}
	return out, nil
}

func (s *Service) AddResource(ctx context.Context, r *api.AddResourceRequest) (*emptypb.Empty, error) {
	return empty(s.manager.AddResource(ctx, r.GetID(), wire.FromResource(r.GetResource())))
}

func (s *Service) DeleteResource(ctx context.Context, r *api.DeleteResourceRequest) (*emptypb.Empty, error) {
	return empty(s.manager.DeleteResource(ctx, r.GetID(), wire.FromResource(r.GetResource())))
}

func (s *Service) ListResources(ctx context.Context, r *api.ListResourcesRequest) (*api.ListResourcesResponse, error) {
	list, err := s.manager.ListResources(ctx, r.GetID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.ListResourcesResponse{Resources: make([]*api.Resource, len(list))}
	for i, res := range list {
		out.Resources[i] = wire.Resource(res)
	}
	return out, nil
}

func empty(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &emptypb.Empty{}, nil
}
