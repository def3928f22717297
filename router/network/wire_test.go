package network_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
	"gantry/internal/testutil/transcript"
	"gantry/router/internal/routertest"
	"gantry/router/network"
)

const netID = "7d86d31b1478e7cca9ebed7e73aa0fdeec46c5ca29497431d3007d2d9e15ed99"

// world is a backend with one network, mine. The name "echo" refuses with what the
// routes decoded.
type world struct{}

func echo(ref string, args ...any) error {
	if ref != "echo" {
		return nil
	}
	b, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return errdefs.InvalidArgument("%s", b)
}

func find(ref string) error {
	if ref != "mine" && ref != netID {
		return errdefs.NotFound("network %s not found", ref)
	}
	return nil
}

func (world) List(_ context.Context, f filters.Args) ([]networktypes.Summary, error) {
	if f.Contains("driver") {
		return nil, nil
	}
	return []networktypes.Summary{{Name: "mine", ID: netID, Driver: "bridge", Containers: map[string]networktypes.EndpointResource{}}}, nil
}

func (world) Inspect(_ context.Context, ref string, o networktypes.InspectOptions) (networktypes.Inspect, error) {
	if err := echo(ref, o); err != nil {
		return networktypes.Inspect{}, err
	}
	return networktypes.Inspect{Name: "mine", ID: netID, Driver: "bridge", Containers: map[string]networktypes.EndpointResource{
		"web": {Name: "web", IPv4Address: "172.18.0.2/16"},
	}}, find(ref)
}

func (world) Create(_ context.Context, r networktypes.CreateRequest) (networktypes.CreateResponse, error) {
	if err := echo(r.Name, r); err != nil {
		return networktypes.CreateResponse{}, err
	}
	if r.Name == "mine" {
		return networktypes.CreateResponse{}, errdefs.Conflict("network with name mine already exists")
	}
	return networktypes.CreateResponse{ID: netID}, nil
}

func (world) Remove(_ context.Context, ref string) error {
	if ref == "bridge" {
		return errdefs.PermissionDenied("bridge is a pre-defined network and cannot be removed")
	}
	return find(ref)
}

func (world) Prune(_ context.Context, f filters.Args) (*networktypes.PruneReport, error) {
	return &networktypes.PruneReport{NetworksDeleted: []string{"mine"}}, f.Validate(map[string]bool{"until": true})
}

func (world) Connect(_ context.Context, ref string, o networktypes.ConnectOptions) error {
	if err := echo(ref, o.Container, o.EndpointConfig != nil); err != nil {
		return err
	}
	return find(ref)
}

func (world) Disconnect(_ context.Context, ref string, o networktypes.DisconnectOptions) error {
	if err := echo(ref, o); err != nil {
		return err
	}
	return find(ref)
}

func TestTranscripts(t *testing.T) {
	dial := routertest.Serve(t, network.New(world{}))
	transcript.Run(t, dial, "testdata/*.txt", transcript.Names{"mine": netID})
}
