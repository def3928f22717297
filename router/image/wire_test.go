package image_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/internal/testutil/transcript"
	"gantry/router/image"
	"gantry/router/internal/routertest"
)

const imageID = "sha256:9d5226e6ce3fb6aee2822206a5ef85f38c303d2b37bfc894b419fca2c0501269"

// world is a backend with one image, busybox, and one without a name. The name
// "echo" refuses with what the routes decoded.
type world struct{}

func echo(ref string, args ...any) error {
	if ref != "echo" && ref != "echo:latest" && ref != "echo:1" {
		return nil
	}
	b, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return errdefs.InvalidArgument("%s", b)
}

func find(ref string) error {
	if ref != "busybox" && ref != "busybox:latest" {
		return errdefs.NotFound("No such image: %s", ref)
	}
	return nil
}

func (world) Pull(_ context.Context, o apiimage.PullOptions, out apiimage.Progress) error {
	if err := echo(o.Ref, o); err != nil {
		return err
	}
	if o.Ref == "nope:latest" {
		return errdefs.NotFound("pull access denied for nope, repository does not exist or may require 'docker login'")
	}
	_ = out(jsonmessage.JSONMessage{Status: "Pulling from library/busybox", ID: "latest"})
	_ = out(jsonmessage.JSONMessage{Status: "Pulling fs layer", ID: "9d5226e6ce3f", Progress: &jsonmessage.JSONProgress{}})
	_ = out(jsonmessage.JSONMessage{Status: "Downloading", ID: "9d5226e6ce3f", Progress: &jsonmessage.JSONProgress{Current: 5}})
	if o.Ref == "torn:latest" {
		return errdefs.Unavailable("connection reset by peer")
	}
	return nil
}

func (world) Push(_ context.Context, ref string, p *ocispec.Platform, a *registry.AuthConfig, _ apiimage.Progress) error {
	if err := echo(ref, ref, p, a); err != nil {
		return err
	}
	return errdefs.NotFound("An image does not exist locally with the tag: %s", ref)
}

func (world) Import(_ context.Context, o apiimage.ImportOptions, out apiimage.Progress) error {
	body := ""
	if o.Body != nil {
		b, err := io.ReadAll(o.Body)
		if err != nil {
			return err
		}
		body, o.Body = string(b), nil
	}
	if err := echo(o.Ref, o, body); err != nil {
		return err
	}
	return out(jsonmessage.JSONMessage{Status: imageID})
}

func (world) Load(_ context.Context, r io.Reader, p *ocispec.Platform, quiet bool, out apiimage.Progress) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if string(b) != "a tar" {
		return errdefs.InvalidArgument("archive/tar: invalid tar header, platform %v quiet %v", p, quiet)
	}
	return out(jsonmessage.JSONMessage{Stream: "Loaded image: busybox:latest\n"})
}

func (world) Save(_ context.Context, names []string, p *ocispec.Platform, w io.Writer) error {
	if len(names) == 0 {
		return errdefs.InvalidArgument("no names")
	}
	if err := echo(names[0], names, p); err != nil {
		return err
	}
	for _, n := range names {
		if err := find(n); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "a tar")
	return err
}

func (world) List(_ context.Context, o image.ListOptions) ([]*imagetypes.Summary, error) {
	if o.All {
		return nil, echo("echo", o)
	}
	return []*imagetypes.Summary{
		{ID: imageID, RepoTags: []string{"busybox:latest"}, Created: 1700000000, Size: 7, Containers: 2, Descriptor: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}},
		{ID: "sha256:00", Created: 1700000000, Size: 8},
	}, nil
}

func (world) Inspect(_ context.Context, ref string, o image.InspectOptions) (*imagetypes.InspectResponse, error) {
	if err := echo(ref, o); err != nil {
		return nil, err
	}
	return &imagetypes.InspectResponse{
		ID: imageID, Os: "linux", Architecture: "amd64", Size: 7,
		Container:  "c0ffee", //nolint:staticcheck // served to older versions
		Config:     &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"sh"}}},
		Descriptor: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex},
	}, find(ref)
}

func (world) History(_ context.Context, ref string, p *ocispec.Platform) ([]*imagetypes.HistoryResponseItem, error) {
	if err := echo(ref, p); err != nil {
		return nil, err
	}
	return []*imagetypes.HistoryResponseItem{{ID: imageID, Created: 1700000000, CreatedBy: "ADD rootfs"}}, find(ref)
}

func (world) Tag(_ context.Context, ref, repo, tag string) error {
	if err := echo(ref, repo, tag); err != nil {
		return err
	}
	return find(ref)
}

func (world) Remove(_ context.Context, ref string, o imagetypes.RemoveOptions) ([]imagetypes.DeleteResponse, error) {
	if err := echo(ref, o); err != nil {
		return nil, err
	}
	return []imagetypes.DeleteResponse{{Untagged: ref}, {Deleted: imageID}}, find(ref)
}

func (world) Prune(_ context.Context, f filters.Args) (*imagetypes.PruneReport, error) {
	if err := f.Validate(map[string]bool{"dangling": true, "label": true, "label!": true, "until": true}); err != nil {
		return nil, err
	}
	return &imagetypes.PruneReport{ImagesDeleted: []imagetypes.DeleteResponse{{Deleted: imageID}}, SpaceReclaimed: 7}, nil
}

// loader reports before it has read its input.
type loader struct{ world }

func (loader) Load(_ context.Context, r io.Reader, _ *ocispec.Platform, _ bool, out apiimage.Progress) error {
	if err := out(jsonmessage.JSONMessage{Status: "Loading"}); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		return err
	}
	return out(jsonmessage.JSONMessage{Status: fmt.Sprint(n, " bytes")})
}

func TestProgressWhileReading(t *testing.T) {
	dial := routertest.Serve(t, image.New(loader{}))
	c := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() }}}
	defer c.CloseIdleConnections()
	res, err := c.Post("http://engine/v1.51/images/load", "application/x-tar", bytes.NewReader(make([]byte, 100<<10)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(b), `{"status":"102400 bytes"}`) {
		t.Errorf("%s %v", b, err)
	}
}

func TestTranscripts(t *testing.T) {
	dial := routertest.Serve(t, image.New(world{}))
	transcript.Run(t, dial, "testdata/*.txt", transcript.Names{"image": imageID})
}
