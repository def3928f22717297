// Package sandboxstore serves containerd.services.sandbox.v1.Store on a sandbox.Store.
package sandboxstore

import (
	"context"

	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/wire"
)

// Service adapts a store. It publishes nothing: events are of sandboxes that run.
type Service struct {
	api.UnimplementedStoreServer
	store sandbox.Store
}

// New returns the service.
func New(store sandbox.Store) *Service { return &Service{store: store} }

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterStoreServer(r, s) }

func (s *Service) Create(ctx context.Context, r *api.StoreCreateRequest) (*api.StoreCreateResponse, error) {
	if r.GetSandbox() == nil {
		return nil, rpcstatus.To(errNoSandbox)
	}
	sb, err := s.store.Create(ctx, wire.FromSandbox(r.GetSandbox()))
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.StoreCreateResponse{Sandbox: wire.Sandbox(sb)}, nil
}

var errNoSandbox = errdefs.InvalidArgument("sandbox must be set")

func (s *Service) Update(ctx context.Context, r *api.StoreUpdateRequest) (*api.StoreUpdateResponse, error) {
	if r.GetSandbox() == nil {
		return nil, rpcstatus.To(errNoSandbox)
	}
	sb, err := s.store.Update(ctx, wire.FromSandbox(r.GetSandbox()), r.GetFields()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.StoreUpdateResponse{Sandbox: wire.Sandbox(sb)}, nil
}

func (s *Service) Delete(ctx context.Context, r *api.StoreDeleteRequest) (*api.StoreDeleteResponse, error) {
	if err := s.store.Delete(ctx, r.GetSandboxID()); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.StoreDeleteResponse{}, nil
}

func (s *Service) List(ctx context.Context, r *api.StoreListRequest) (*api.StoreListResponse, error) {
	list, err := s.store.List(ctx, r.GetFilters()...)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.StoreListResponse{List: make([]*types.Sandbox, len(list))}
	for i, sb := range list {
		out.List[i] = wire.Sandbox(sb)
	}
	return out, nil
}

func (s *Service) Get(ctx context.Context, r *api.StoreGetRequest) (*api.StoreGetResponse, error) {
	sb, err := s.store.Get(ctx, r.GetSandboxID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.StoreGetResponse{Sandbox: wire.Sandbox(sb)}, nil
}
