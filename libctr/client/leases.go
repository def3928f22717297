package client

import (
	"context"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/lease"
	"gantry/libctr/core/wire"
)

// Leases returns the core's leases.
func (c *Client) Leases() lease.Manager { return Leases(c.conn) }

// Leases is the same on a connection with this package's interceptors.
func Leases(conn grpc.ClientConnInterface) lease.Manager {
	return leases{leasesapi.NewLeasesClient(conn)}
}

type leases struct{ rpc leasesapi.LeasesClient }

func (m leases) Create(ctx context.Context, id string, labels map[string]string) (lease.Lease, error) {
	r, err := m.rpc.Create(ctx, &leasesapi.CreateRequest{ID: id, Labels: labels})
	return wire.FromLease(r.GetLease()), err
}

func (m leases) Delete(ctx context.Context, id string, sync bool) error {
	_, err := m.rpc.Delete(ctx, &leasesapi.DeleteRequest{ID: id, Sync: sync})
	return err
}

func (m leases) List(ctx context.Context, filters ...string) ([]lease.Lease, error) {
	r, err := m.rpc.List(ctx, &leasesapi.ListRequest{Filters: filters})
	if err != nil {
		return nil, err
	}
	out := make([]lease.Lease, len(r.GetLeases()))
	for i, l := range r.GetLeases() {
		out[i] = wire.FromLease(l)
	}
	return out, nil
}

func (m leases) AddResource(ctx context.Context, id string, r lease.Resource) error {
	_, err := m.rpc.AddResource(ctx, &leasesapi.AddResourceRequest{ID: id, Resource: wire.Resource(r)})
	return err
}

func (m leases) DeleteResource(ctx context.Context, id string, r lease.Resource) error {
	_, err := m.rpc.DeleteResource(ctx, &leasesapi.DeleteResourceRequest{ID: id, Resource: wire.Resource(r)})
	return err
}

func (m leases) ListResources(ctx context.Context, id string) ([]lease.Resource, error) {
	r, err := m.rpc.ListResources(ctx, &leasesapi.ListResourcesRequest{ID: id})
	if err != nil {
		return nil, err
	}
	out := make([]lease.Resource, len(r.GetResources()))
	for i, res := range r.GetResources() {
		out[i] = wire.FromResource(res)
	}
	return out, nil
}
