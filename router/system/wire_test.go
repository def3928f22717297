package system_test

import (
	"context"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	systemtypes "github.com/docker/docker/api/types/system"

	"gantry/api/errdefs"
	"gantry/internal/testutil/transcript"
	buildrouter "gantry/router/build"
	"gantry/router/debug"
	"gantry/router/distribution"
	"gantry/router/internal/routertest"
	"gantry/router/plugin"
	"gantry/router/session"
	"gantry/router/swarm"
	"gantry/router/system"
)

type world struct{}

func (world) Info(context.Context) (*systemtypes.Info, error) {
	return &systemtypes.Info{
		ID:                "an-id",
		KernelMemory:      true,
		SecurityOptions:   []string{"name=seccomp,profile=builtin", "name=cgroupns"},
		RegistryConfig:    &registry.ServiceConfig{},
		Runtimes:          map[string]systemtypes.RuntimeWithStatus{"gantry": {Runtime: systemtypes.Runtime{Path: "gantry"}, Status: map[string]string{"a": "b"}}},
		RuncCommit:        systemtypes.Commit{ID: "abc"},
		Containerd:        &systemtypes.ContainerdInfo{Address: "/run/core.sock"},
		FirewallBackend:   &systemtypes.FirewallInfo{Driver: "nftables"},
		ContainerdCommit:  systemtypes.Commit{ID: "abc"},
		DiscoveredDevices: []systemtypes.DeviceInfo{{Source: "cdi", ID: "vendor.com/gpu=0"}},
		InitCommit:        systemtypes.Commit{ID: "abc"},
	}, nil
}

func (world) Version(context.Context) (types.Version, error) {
	return types.Version{Version: "0.1.0", APIVersion: "1.51", MinAPIVersion: "1.24", Os: "linux", Arch: "amd64"}, nil
}

func (world) DiskUsage(_ context.Context, kinds []types.DiskUsageObject) (*types.DiskUsage, error) {
	d := &types.DiskUsage{}
	for _, k := range kinds {
		switch k {
		case types.ImageObject:
			d.LayersSize = 7
			d.Images = []*imagetypes.Summary{{ID: "sha256:00", Size: 7}}
		case types.BuildCacheObject:
			d.BuildCache = []*build.CacheRecord{{ID: "c", Parent: "p", Parents: []string{"p"}, Size: 5}}
		}
	}
	return d, nil
}

func (world) Auth(_ context.Context, a *registry.AuthConfig) (string, string, error) {
	if a.Password != "right" {
		return "", "", errdefs.Unauthenticated("Get \"https://%s/v2/\": unauthorized: incorrect username or password", a.ServerAddress)
	}
	return "Login Succeeded", "", nil
}

func (world) Events(_ context.Context, since, until time.Time, f filters.Args, open func() error, emit func(events.Message) error) error {
	if f.Contains("colour") {
		return errdefs.InvalidArgument("invalid filter 'colour'")
	}
	if err := open(); err != nil {
		return err
	}
	if until.IsZero() {
		return nil
	}
	_ = emit(events.Message{Type: events.ImageEventType, Action: events.ActionCreate, TimeNano: since.UnixNano()})
	return emit(events.Message{Type: events.ContainerEventType, Action: events.ActionStart, TimeNano: until.UnixNano()})
}

func TestTranscripts(t *testing.T) {
	dial := routertest.Serve(t, system.New(world{}), swarm.New(), plugin.New(), buildrouter.New(), session.New(), distribution.New(nil), debug.New(func() bool { return true }))
	transcript.Run(t, dial, "testdata/*.txt", nil)
}
