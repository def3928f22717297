package system

import (
	"context"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"
	systemtypes "github.com/docker/docker/api/types/system"
)

// Backend is what the system routes call; daemon/system.Service implements it.
type Backend interface {
	Info(ctx context.Context) (*systemtypes.Info, error)
	Version(ctx context.Context) (types.Version, error)
	DiskUsage(ctx context.Context, kinds []types.DiskUsageObject) (*types.DiskUsage, error)
	Auth(ctx context.Context, a *registry.AuthConfig) (status, token string, err error)
	// Events calls open once it listens, so that no event after it is missed, and then
	// emit for each event from since on, until until (zero: live, without end) or ctx
	// ends. A zero since means live only. Bad filters are told before open.
	Events(ctx context.Context, since, until time.Time, f filters.Args, open func() error, emit func(events.Message) error) error
}
