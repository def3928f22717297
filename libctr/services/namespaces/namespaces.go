// Package namespaces serves containerd.services.namespaces.v1 on a namespace.Store.
package namespaces

import (
	"context"
	"log/slog"
	"strings"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/event"
	"gantry/libctr/core/namespace"
	"gantry/libctr/services/notify"
)

// labelPath begins the field path of a label.
const labelPath = "labels."

// Service adapts a store. Events: /namespaces/create, update, delete, in the
// namespace that they are about.
type Service struct {
	api.UnimplementedNamespacesServer
	store  namespace.Store
	notify notify.Publisher
}

// New returns the service; events and log may be nil.
func New(store namespace.Store, events event.Publisher, log *slog.Logger) *Service {
	return &Service{store: store, notify: notify.Publisher{Events: events, Log: log}}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterNamespacesServer(r, s) }

func (s *Service) Get(ctx context.Context, r *api.GetNamespaceRequest) (*api.GetNamespaceResponse, error) {
	labels, err := s.store.Labels(ctx, r.GetName())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.GetNamespaceResponse{Namespace: &api.Namespace{Name: r.GetName(), Labels: labels}}, nil
}

// List answers all namespaces; containerd too ignores the request's filter.
func (s *Service) List(ctx context.Context, _ *api.ListNamespacesRequest) (*api.ListNamespacesResponse, error) {
	names, err := s.store.List(ctx)
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	out := &api.ListNamespacesResponse{}
	for _, name := range names {
		labels, err := s.store.Labels(ctx, name)
		if err != nil {
			return nil, rpcstatus.To(err)
		}
		out.Namespaces = append(out.Namespaces, &api.Namespace{Name: name, Labels: labels})
	}
	return out, nil
}

func (s *Service) Create(ctx context.Context, r *api.CreateNamespaceRequest) (*api.CreateNamespaceResponse, error) {
	ns := r.GetNamespace()
	if err := s.store.Create(ctx, ns.GetName(), ns.GetLabels()); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(reqctx.WithNamespace(ctx, ns.GetName()), "/namespaces/create",
		&containerdevents.NamespaceCreate{Name: ns.GetName(), Labels: ns.GetLabels()})
	return &api.CreateNamespaceResponse{Namespace: &api.Namespace{Name: ns.GetName(), Labels: ns.GetLabels()}}, nil
}

// Update sets the labels that the mask names as "labels.KEY". Without a mask the
// request's replace those that are there. The answer is empty, as containerd's.
func (s *Service) Update(ctx context.Context, r *api.UpdateNamespaceRequest) (*api.UpdateNamespaceResponse, error) {
	if err := s.update(ctx, r.GetNamespace(), r.GetUpdateMask().GetPaths()); err != nil {
		return nil, rpcstatus.To(err)
	}
	name := r.GetNamespace().GetName()
	s.notify.Publish(reqctx.WithNamespace(ctx, name), "/namespaces/update",
		&containerdevents.NamespaceUpdate{Name: name, Labels: r.GetNamespace().GetLabels()})
	return &api.UpdateNamespaceResponse{}, nil
}

func (s *Service) update(ctx context.Context, ns *api.Namespace, paths []string) error {
	if len(paths) == 0 {
		return s.store.SetLabels(ctx, ns.GetName(), ns.GetLabels())
	}
	for _, path := range paths {
		if !strings.HasPrefix(path, labelPath) {
			return errdefs.InvalidArgument("cannot update %q field", path)
		}
	}
	for _, path := range paths {
		key := strings.TrimPrefix(path, labelPath)
		if err := s.store.SetLabel(ctx, ns.GetName(), key, ns.GetLabels()[key]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) Delete(ctx context.Context, r *api.DeleteNamespaceRequest) (*emptypb.Empty, error) {
	if err := s.store.Delete(ctx, r.GetName()); err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(reqctx.WithNamespace(ctx, r.GetName()), "/namespaces/delete",
		&containerdevents.NamespaceDelete{Name: r.GetName()})
	return &emptypb.Empty{}, nil
}
