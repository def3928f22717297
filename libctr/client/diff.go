package client

import (
	"context"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/diff"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/wire"
)

// Differ applies and compares layers.
type Differ interface {
	diff.Applier
	diff.Comparer
}

// Differ returns the core's diff service.
func (c *Client) Differ() Differ { return NewDiffer(c.conn) }

// NewDiffer is the same on a connection with this package's interceptors.
func NewDiffer(conn grpc.ClientConnInterface) Differ {
	return differ{diffapi.NewDiffClient(conn)}
}

type differ struct{ rpc diffapi.DiffClient }

func (d differ) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount) (ocispec.Descriptor, error) {
	r, err := d.rpc.Apply(ctx, &diffapi.ApplyRequest{Diff: wire.Descriptor(layer), Mounts: wire.Mounts(mounts)})
	return wire.FromDescriptor(r.GetApplied()), err
}

func (d differ) Compare(ctx context.Context, lower, upper []mount.Mount, o diff.CompareOptions) (ocispec.Descriptor, error) {
	r, err := d.rpc.Diff(ctx, &diffapi.DiffRequest{
		Left: wire.Mounts(lower), Right: wire.Mounts(upper), MediaType: o.MediaType, Ref: o.Reference, Labels: o.Labels,
	})
	return wire.FromDescriptor(r.GetDiff()), err
}
