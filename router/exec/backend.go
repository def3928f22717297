package exec

import (
	"context"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
)

// Backend is what the exec routes call; daemon/exec.Service implements it.
type Backend interface {
	Create(ctx context.Context, container string, o containertypes.ExecOptions) (id string, err error)
	// Ready says why an exec cannot be started now, if it cannot.
	Ready(ctx context.Context, id string) error
	// Start runs the exec; with Detach it returns once the process has started, else when its streams have ended.
	Start(ctx context.Context, id string, o apicontainer.ExecStartOptions) error
	Resize(ctx context.Context, id string, height, width uint32) error
	Inspect(ctx context.Context, id string) (*backend.ExecInspect, error)
}
