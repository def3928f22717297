// Package image names manifests: an image is a name for a target descriptor.
package image

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a record; Name is unique in its namespace.
type Image struct {
	Name      string
	Labels    map[string]string
	Target    ocispec.Descriptor
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Store keeps images. Safe for concurrent use.
type Store interface {
	Get(ctx context.Context, name string) (Image, error)
	List(ctx context.Context, filters ...string) ([]Image, error)
	Create(ctx context.Context, img Image) (Image, error)
	// Update replaces the fields named by fieldpaths ("target", "labels", "labels.KEY"), all when none are given.
	Update(ctx context.Context, img Image, fieldpaths ...string) (Image, error)
	// Delete drops the name; what it alone kept goes at the next GC, before the return when sync is set.
	// A non-nil target must be the image's, else NotFound.
	Delete(ctx context.Context, name string, sync bool, target *ocispec.Descriptor) error
}
