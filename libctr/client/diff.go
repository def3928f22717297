package client

import (
	"context"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

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
func (c *Client) Differ() Differ { return differ{diffapi.NewDiffClient(c.conn)} }

type differ struct{ rpc diffapi.DiffClient }

func (d differ) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, o diff.ApplyOptions) (ocispec.Descriptor, error) {
	req := &diffapi.ApplyRequest{Diff: wire.Descriptor(layer), Mounts: wire.Mounts(mounts), SyncFs: o.SyncFS}
	for id, p := range o.Payloads {
		if req.Payloads == nil {
			req.Payloads = make(map[string]*anypb.Any)
		}
		req.Payloads[id] = &anypb.Any{TypeUrl: p.TypeURL, Value: p.Value}
	}
	r, err := d.rpc.Apply(ctx, req)
	return wire.FromDescriptor(r.GetApplied()), err
}

func (d differ) Compare(ctx context.Context, lower, upper []mount.Mount, o diff.CompareOptions) (ocispec.Descriptor, error) {
	req := &diffapi.DiffRequest{
		Left: wire.Mounts(lower), Right: wire.Mounts(upper), MediaType: o.MediaType, Ref: o.Reference, Labels: o.Labels,
	}
	if o.SourceDateEpoch != nil {
		req.SourceDateEpoch = timestamppb.New(*o.SourceDateEpoch)
	}
	r, err := d.rpc.Diff(ctx, req)
	return wire.FromDescriptor(r.GetDiff()), err
}
