package diff

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/mount"
)

// Both is an applier that also compares.
type Both interface {
	diff.Applier
	diff.Comparer
}

// Ordered asks one differ after the other, as long as what was wanted is not implemented.
type Ordered struct {
	Differs []Both
	SyncFS  bool // of all that is applied
}

var _ Both = Ordered{}

// Apply implements diff.Applier.
func (o Ordered) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, opts diff.ApplyOptions) (d ocispec.Descriptor, err error) {
	opts.SyncFS = opts.SyncFS || o.SyncFS
	err = o.first(func(b Both) error {
		d, err = b.Apply(ctx, layer, mounts, opts)
		return err
	})
	return d, err
}

// Compare implements diff.Comparer.
func (o Ordered) Compare(ctx context.Context, lower, upper []mount.Mount, opts diff.CompareOptions) (d ocispec.Descriptor, err error) {
	err = o.first(func(b Both) error {
		d, err = b.Compare(ctx, lower, upper, opts)
		return err
	})
	return d, err
}

func (o Ordered) first(try func(Both) error) error {
	err := errdefs.NotImplemented("there is no differ")
	for _, b := range o.Differs {
		if err = try(b); !errdefs.IsNotImplemented(err) {
			break
		}
	}
	return err
}
