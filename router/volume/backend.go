package volume

import (
	"context"

	"github.com/docker/docker/api/types/filters"
	volumetypes "github.com/docker/docker/api/types/volume"
)

// Backend is what the volume routes call; daemon/volume.Service implements it.
type Backend interface {
	List(ctx context.Context, f filters.Args) ([]*volumetypes.Volume, []string, error)
	Inspect(ctx context.Context, name string) (*volumetypes.Volume, error)
	Create(ctx context.Context, o volumetypes.CreateOptions) (*volumetypes.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, f filters.Args) (*volumetypes.PruneReport, error)
}
