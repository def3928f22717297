package container

import (
	"context"
	"io"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	apicontainer "gantry/api/container"
)

// Backend is what the container routes call; daemon/container.Service implements it.
type Backend interface {
	lifecycle
	reader
	streams
}

type lifecycle interface {
	Create(ctx context.Context, o apicontainer.CreateOptions) (containertypes.CreateResponse, error)
	Start(ctx context.Context, ref string, o containertypes.StartOptions) error
	Stop(ctx context.Context, ref string, o containertypes.StopOptions) error
	Restart(ctx context.Context, ref string, o containertypes.StopOptions) error
	// Kill sends signal, a name or number; "" is KILL.
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, u containertypes.UpdateConfig) (containertypes.UpdateResponse, error)
	Remove(ctx context.Context, ref string, o containertypes.RemoveOptions) error
	Prune(ctx context.Context, f filters.Args) (containertypes.PruneReport, error)
	// Wait returns at once when ref exists; the channel yields one result. Its error is
	// for a ref or condition that is no good.
	Wait(ctx context.Context, ref string, cond containertypes.WaitCondition) (<-chan containertypes.WaitResponse, error)
}

type reader interface {
	List(ctx context.Context, o containertypes.ListOptions) ([]containertypes.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (containertypes.InspectResponse, error)
	Top(ctx context.Context, ref, psArgs string) (containertypes.TopResponse, error)
	Changes(ctx context.Context, ref string) ([]containertypes.FilesystemChange, error)
	Export(ctx context.Context, ref string, w io.Writer) error
	StatPath(ctx context.Context, ref, path string) (containertypes.PathStat, error)
	CopyFrom(ctx context.Context, ref, path string) (apicontainer.Archive, containertypes.PathStat, error)
	CopyTo(ctx context.Context, ref, path string, o containertypes.CopyToContainerOptions, content io.Reader) error
}

type streams interface {
	Attach(ctx context.Context, ref string, o apicontainer.AttachOptions) error
	// Logs calls o.Open once when the container and options are good, then writes until the end.
	Logs(ctx context.Context, ref string, o apicontainer.LogsOptions) error
	// Stats calls emit for each sample; with stream false once.
	Stats(ctx context.Context, ref string, stream, oneShot bool, emit func(*containertypes.StatsResponse) error) error
	Resize(ctx context.Context, ref string, height, width uint32) error
}
