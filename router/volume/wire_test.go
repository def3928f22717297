package volume_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/docker/docker/api/types/filters"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
	"gantry/internal/testutil/transcript"
	"gantry/router/internal/routertest"
	"gantry/router/volume"
)

// world is a backend with one volume, data.
type world struct{}

var data = &volumetypes.Volume{Name: "data", Driver: "local", Mountpoint: "/var/lib/gantry/volumes/data/_data", Scope: "local", CreatedAt: "2023-11-14T22:13:20Z"}

func find(name string) error {
	if name != "data" {
		return errdefs.NotFound("get %s: no such volume", name)
	}
	return nil
}

func (world) List(_ context.Context, f filters.Args) ([]*volumetypes.Volume, []string, error) {
	if f.Contains("name") {
		return nil, nil, nil
	}
	return []*volumetypes.Volume{data}, []string{"driver nfs does not answer"}, f.Validate(map[string]bool{"dangling": true})
}

func (world) Inspect(_ context.Context, name string) (*volumetypes.Volume, error) {
	return data, find(name)
}

func (world) Create(_ context.Context, o volumetypes.CreateOptions) (*volumetypes.Volume, error) {
	if o.Name == "echo" {
		b, _ := json.Marshal(o)
		return nil, errdefs.InvalidArgument("%s", b)
	}
	return data, nil
}

func (world) Remove(_ context.Context, name string, force bool) error {
	if force {
		return nil
	}
	if name == "used" {
		return errdefs.Conflict("remove used: volume is in use - [web]")
	}
	return find(name)
}

func (world) Prune(_ context.Context, f filters.Args) (*volumetypes.PruneReport, error) {
	if f.Contains("label") {
		b, _ := json.Marshal(f)
		return nil, errdefs.InvalidArgument("%s", b)
	}
	return &volumetypes.PruneReport{VolumesDeleted: []string{"data"}, SpaceReclaimed: 7}, nil
}

func TestTranscripts(t *testing.T) {
	transcript.Run(t, routertest.Serve(t, volume.New(world{})), "testdata/*.txt", nil)
}
