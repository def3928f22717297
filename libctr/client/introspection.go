package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
)

// Introspection tells about the server.
type Introspection struct {
	rpc     introspectionapi.IntrospectionClient
	version versionapi.VersionClient
}

// Introspection returns what tells about the server. The answers are the API's own
// messages.
func (c *Client) Introspection() *Introspection {
	return &Introspection{
		rpc: introspectionapi.NewIntrospectionClient(c.conn), version: versionapi.NewVersionClient(c.conn)}
}

// Server answers the uuid of the core's root, its pid and pid namespace.
func (i *Introspection) Server(ctx context.Context) (*introspectionapi.ServerResponse, error) {
	return i.rpc.Server(ctx, &emptypb.Empty{})
}

// Plugins lists the plugins that one of the filters matches, any when there are none.
func (i *Introspection) Plugins(ctx context.Context, filters ...string) ([]*introspectionapi.Plugin, error) {
	r, err := i.rpc.Plugins(ctx, &introspectionapi.PluginsRequest{Filters: filters})
	return r.GetPlugins(), err
}

// PluginInfo asks one plugin about itself; see the API for the options.
func (i *Introspection) PluginInfo(ctx context.Context, req *introspectionapi.PluginInfoRequest) (*introspectionapi.PluginInfoResponse, error) {
	return i.rpc.PluginInfo(ctx, req)
}

// Version answers the core's version and revision.
func (i *Introspection) Version(ctx context.Context) (version, revision string, err error) {
	r, err := i.version.Version(ctx, &emptypb.Empty{})
	return r.GetVersion(), r.GetRevision(), err
}

// Ready waits until the core answers that it serves, or ctx ends.
func (c *Client) Ready(ctx context.Context) error {
	health := healthapi.NewHealthClient(c.conn)
	for {
		r, err := health.Check(ctx, &healthapi.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err == nil && r.GetStatus() == healthapi.HealthCheckResponse_SERVING {
			return nil
		}
		if err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
			return fmt.Errorf("wait for core: %w", err)
		}
		select { // starting, stopping, or lost between the connect and the call
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return fmt.Errorf("wait for core: %w", ctx.Err())
		}
	}
}

const readyPoll = 20 * time.Millisecond
