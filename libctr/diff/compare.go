package diff

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/diff"
	coremount "gantry/libctr/core/mount"
)

// Compare implements diff.Comparer.
func (d *Differ) Compare(ctx context.Context, lower, upper []coremount.Mount, o diff.CompareOptions) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errdefs.NotImplemented("compare is not there yet")
}
