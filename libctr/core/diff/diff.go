// Package diff names the two ways between layers and mounts.
package diff

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/core/mount"
)

// Applier unpacks a layer blob onto mounts. The descriptor it returns is the
// uncompressed tar's: its digest is the diff id.
type Applier interface {
	Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount) (ocispec.Descriptor, error)
}

// CompareOptions say what blob Compare makes.
type CompareOptions struct {
	MediaType string // "" is an uncompressed OCI layer
	Reference string // the ingest's name, "" is a random one
	Labels    map[string]string
}

// Comparer writes the changes from lower to upper as a layer blob. The label
// "containerd.io/uncompressed" of the blob is its diff id.
type Comparer interface {
	Compare(ctx context.Context, lower, upper []mount.Mount, o CompareOptions) (ocispec.Descriptor, error)
}
