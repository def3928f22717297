// Package mounts serves containerd.services.mounts.v1 on an activation.Manager.
package mounts

import (
	"context"

	api "github.com/containerd/containerd/api/services/mounts/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/wire"
)

// Service adapts a manager.
type Service struct {
	api.UnimplementedMountsServer
	manager activation.Manager
}

// New returns the service.
func New(m activation.Manager) *Service { return &Service{manager: m} }

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterMountsServer(r, s) }

func (s *Service) Activate(ctx context.Context, r *api.ActivateRequest) (*api.ActivateResponse, error) {
	a, err := s.manager.Activate(ctx, r.GetName(), wire.FromMounts(r.GetMounts()),
		activation.Options{Labels: r.GetLabels(), Temporary: r.GetTemporary()})
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ActivateResponse{Info: wire.Activation(a)}, nil
}

func (s *Service) Deactivate(ctx context.Context, r *api.DeactivateRequest) (*emptypb.Empty, error) {
	if err := s.manager.Deactivate(ctx, r.GetName()); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &emptypb.Empty{}, nil
}

func (s *Service) Info(ctx context.Context, r *api.InfoRequest) (*api.InfoResponse, error) {
	a, err := s.manager.Info(ctx, r.GetName())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.InfoResponse{Info: wire.Activation(a)}, nil
}

func (s *Service) Update(ctx context.Context, r *api.UpdateRequest) (*api.UpdateResponse, error) {
	if r.GetInfo() == nil {
		return nil, rpcstatus.To(errdefs.InvalidArgument("activation must be set"))
	}
	a, err := s.manager.Update(ctx, wire.FromActivation(r.GetInfo()), r.GetUpdateMask().GetPaths()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.UpdateResponse{Info: wire.Activation(a)}, nil
}

func (s *Service) List(r *api.ListRequest, stream api.Mounts_ListServer) error {
	all, err := s.manager.List(stream.Context(), r.GetFilters()...)
	if err != nil {
		return rpcstatus.To(err)
	}
	for _, a := range all {
		if err := stream.Send(&api.ListMessage{Info: wire.Activation(a)}); err != nil {
			return err
		}
	}
	return nil
}
