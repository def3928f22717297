package network

import (
	"context"

	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"
)

// Backend is what the network routes call; daemon/network.Service implements it,
// but for Connect and Disconnect, which need the container too.
type Backend interface {
	List(ctx context.Context, f filters.Args) ([]networktypes.Summary, error)
	Inspect(ctx context.Context, ref string, o networktypes.InspectOptions) (networktypes.Inspect, error)
	Create(ctx context.Context, r networktypes.CreateRequest) (networktypes.CreateResponse, error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, f filters.Args) (*networktypes.PruneReport, error)
	Connect(ctx context.Context, ref string, o networktypes.ConnectOptions) error
	Disconnect(ctx context.Context, ref string, o networktypes.DisconnectOptions) error
}
