package image

import (
	"context"
	"io"

	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	apiimage "gantry/api/image"
)

// Backend is what the image routes call; daemon/image.Service implements it.
type Backend interface {
	Pull(ctx context.Context, o apiimage.PullOptions, out apiimage.Progress) error
	Push(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, out apiimage.Progress) error
	Import(ctx context.Context, o apiimage.ImportOptions, out apiimage.Progress) error
	Load(ctx context.Context, tar io.Reader, platform *ocispec.Platform, quiet bool, out apiimage.Progress) error
	// Save writes an OCI layout with Docker's manifest.json. Names that do not exist are found before the first byte.
	Save(ctx context.Context, names []string, platform *ocispec.Platform, w io.Writer) error
	List(ctx context.Context, o ListOptions) ([]*imagetypes.Summary, error)
	Inspect(ctx context.Context, ref string, o InspectOptions) (*imagetypes.InspectResponse, error)
	History(ctx context.Context, ref string, platform *ocispec.Platform) ([]*imagetypes.HistoryResponseItem, error)
	Tag(ctx context.Context, ref, repo, tag string) error
	Remove(ctx context.Context, ref string, o imagetypes.RemoveOptions) ([]imagetypes.DeleteResponse, error)
	Prune(ctx context.Context, f filters.Args) (*imagetypes.PruneReport, error)
}

// ListOptions and InspectOptions are Docker's client options of the same name.
type (
	ListOptions    = imagetypes.ListOptions
	InspectOptions = apiimage.InspectOptions
)
