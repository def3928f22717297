package client

import (
	"context"

	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/namespace"
)

// Namespaces returns the core's namespaces.
func (c *Client) Namespaces() namespace.Store { return Namespaces(c.conn) }

// Namespaces is the same on a connection with this package's interceptors.
func Namespaces(conn grpc.ClientConnInterface) namespace.Store {
	return namespaces{namespacesapi.NewNamespacesClient(conn)}
}

type namespaces struct {
	rpc namespacesapi.NamespacesClient
}

func (s namespaces) Create(ctx context.Context, name string, labels map[string]string) error {
	_, err := s.rpc.Create(ctx, &namespacesapi.CreateNamespaceRequest{
		Namespace: &namespacesapi.Namespace{Name: name, Labels: labels},
	})
	return err
}

func (s namespaces) Labels(ctx context.Context, name string) (map[string]string, error) {
	r, err := s.rpc.Get(ctx, &namespacesapi.GetNamespaceRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if labels := r.GetNamespace().GetLabels(); labels != nil {
		return labels, nil
	}
	return map[string]string{}, nil
}

func (s namespaces) SetLabel(ctx context.Context, name, key, value string) error {
	_, err := s.rpc.Update(ctx, &namespacesapi.UpdateNamespaceRequest{
		Namespace:  &namespacesapi.Namespace{Name: name, Labels: map[string]string{key: value}},
		UpdateMask: mask([]string{"labels." + key}),
	})
	return err
}

func (s namespaces) SetLabels(ctx context.Context, name string, labels map[string]string) error {
	_, err := s.rpc.Update(ctx, &namespacesapi.UpdateNamespaceRequest{
		Namespace: &namespacesapi.Namespace{Name: name, Labels: labels},
	})
	return err
}

func (s namespaces) List(ctx context.Context) ([]string, error) {
	r, err := s.rpc.List(ctx, &namespacesapi.ListNamespacesRequest{})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(r.GetNamespaces()))
	for i, ns := range r.GetNamespaces() {
		names[i] = ns.GetName()
	}
	return names, nil
}

func (s namespaces) Delete(ctx context.Context, name string) error {
	_, err := s.rpc.Delete(ctx, &namespacesapi.DeleteNamespaceRequest{Name: name})
	return err
}
