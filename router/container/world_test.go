package container_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/internal/testutil/transcript"
)

const (
	webID = "1f0e3dad99908345f7439f8ffabdffc4aaf3d8bb1c3d5b5b2a7b2d9a4c9b1e10"
	oldID = "2c624232cdd221771294dfbb310aca000a0df6ac8b66b696d90ef06fdefb64a3"
)

var names = transcript.Names{"web": webID, "old": oldID}

// world is a backend with two containers: web runs, old has exited with 3. The name
// "echo" stands for any container and refuses with what the routes decoded.
type world struct{}

func find(ref string) (string, error) {
	switch {
	case ref == "web" || strings.HasPrefix(webID, ref):
		return webID, nil
	case ref == "old" || strings.HasPrefix(oldID, ref):
		return oldID, nil
	}
	return "", errdefs.NotFound("No such container: %s", ref)
}

// echo refuses with the arguments.
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

func (world) Create(_ context.Context, o apicontainer.CreateOptions) (containertypes.CreateResponse, error) {
	if err := echo(o.Name, o.Version, o.Platform, o.NetworkingConfig.EndpointsConfig, hostConfigPart(o), o.Config.Healthcheck); err != nil {
		return containertypes.CreateResponse{}, err
	}
	if o.Name == "web" {
		return containertypes.CreateResponse{}, errdefs.Conflict(`Conflict. The container name "/web" is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.`, webID)
	}
	if o.Config.Image != "busybox" {
		return containertypes.CreateResponse{}, errdefs.NotFound("No such image: %s:latest", o.Config.Image)
	}
	return containertypes.CreateResponse{ID: webID, Warnings: o.Warnings}, nil
}

// hostConfigPart is what differs between versions, without what is empty.
func hostConfigPart(o apicontainer.CreateOptions) map[string]any {
	b, _ := json.Marshal(o.HostConfig)
	all := map[string]any{}
	_ = json.Unmarshal(b, &all)
	part := map[string]any{}
	for _, k := range []string{"AutoRemove", "NetworkMode", "IpcMode", "CgroupnsMode", "ConsoleSize", "Annotations", "Mounts", "PidsLimit", "Sysctls", "KernelMemory", "KernelMemoryTCP"} {
		if v := all[k]; v != nil && v != "" && v != false {
			part[k] = v
		}
	}
	if o.TopReadOnly {
		part["TopReadOnly"] = true
	}
	return part
}

func (world) Start(_ context.Context, ref string, o containertypes.StartOptions) error {
	if err := echo(ref, o); err != nil {
		return err
	}
	id, err := find(ref)
	if id == webID {
		return errdefs.NotModified("container %s is already running", webID)
	}
	return err
}

func (world) Stop(_ context.Context, ref string, o containertypes.StopOptions) error {
	if err := echo(ref, o); err != nil {
		return err
	}
	id, err := find(ref)
	if id == oldID {
		return errdefs.NotModified("container is already stopped")
	}
	return err
}

func (world) Restart(_ context.Context, ref string, o containertypes.StopOptions) error {
	if err := echo(ref, o); err != nil {
		return err
	}
	_, err := find(ref)
	return err
}

func (world) Kill(_ context.Context, ref, signal string) error {
	if err := echo(ref, signal); err != nil {
		return err
	}
	id, err := find(ref)
	if id == oldID {
		return errdefs.Conflict("container %s is not running", oldID)
	}
	return err
}

func (world) Pause(_ context.Context, ref string) error   { _, err := find(ref); return err }
func (world) Unpause(_ context.Context, ref string) error { _, err := find(ref); return err }

func (world) Rename(_ context.Context, ref, name string) error {
	if name == "" {
		return errdefs.InvalidArgument("Neither old nor new names may be empty")
	}
	_, err := find(ref)
	return err
}

func (world) Update(_ context.Context, ref string, u containertypes.UpdateConfig) (containertypes.UpdateResponse, error) {
	if err := echo(ref, u); err != nil {
		return containertypes.UpdateResponse{}, err
	}
	_, err := find(ref)
	return containertypes.UpdateResponse{Warnings: []string{}}, err
}

func (world) Remove(_ context.Context, ref string, o containertypes.RemoveOptions) error {
	if err := echo(ref, o); err != nil {
		return err
	}
	id, err := find(ref)
	if id == webID && !o.Force {
		return errdefs.Conflict("cannot remove container %q: container is running: stop the container before removing or force remove", "/web")
	}
	return err
}

func (world) Prune(_ context.Context, f filters.Args) (containertypes.PruneReport, error) {
	if err := f.Validate(map[string]bool{"until": true, "label": true, "label!": true}); err != nil {
		return containertypes.PruneReport{}, err
	}
	return containertypes.PruneReport{ContainersDeleted: []string{oldID}, SpaceReclaimed: 212}, nil
}

func (world) Wait(_ context.Context, ref string, cond containertypes.WaitCondition) (<-chan containertypes.WaitResponse, error) {
	if _, err := find(ref); err != nil {
		return nil, err
	}
	c := make(chan containertypes.WaitResponse, 1)
	res := containertypes.WaitResponse{StatusCode: 3}
	if cond == containertypes.WaitConditionRemoved {
		res.Error = &containertypes.WaitExitError{Message: "removal failed: device busy"}
	}
	c <- res
	return c, nil
}

func (world) List(_ context.Context, o containertypes.ListOptions) ([]containertypes.Summary, error) {
	if o.Filters.Contains("name") {
		return nil, nil
	}
	if o.Limit > 0 || o.Since != "" {
		return nil, echo("echo", o)
	}
	s := containertypes.Summary{
		ID: webID, Names: []string{"/web"}, Image: "busybox", ImageID: "sha256:00", Command: "sleep 100", Created: 1700000000,
		Labels: map[string]string{}, State: "running", Status: "Up 2 seconds",
		ImageManifestDescriptor: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest},
		Mounts:                  []containertypes.MountPoint{}, Ports: []containertypes.Port{},
	}
	s.HostConfig.NetworkMode = "bridge"
	s.HostConfig.Annotations = map[string]string{"a": "b"}
	return []containertypes.Summary{s}, nil
}

func (world) Inspect(_ context.Context, ref string, size bool) (containertypes.InspectResponse, error) {
	id, err := find(ref)
	if err != nil {
		return containertypes.InspectResponse{}, err
	}
	r := containertypes.InspectResponse{
		ContainerJSONBase:       &containertypes.ContainerJSONBase{ID: id, Name: "/web", Created: "2023-11-14T22:13:20Z"},
		Config:                  &containertypes.Config{Hostname: "webhost", Image: "busybox"},
		ImageManifestDescriptor: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest},
		NetworkSettings: &containertypes.NetworkSettings{Networks: map[string]*networktypes.EndpointSettings{
			"bridge": {NetworkID: "n1"},
			"mine":   {NetworkID: "n2", Aliases: []string{"db"}},
		}},
	}
	if size {
		n := int64(7)
		r.SizeRw = &n
	}
	return r, nil
}

func (world) Top(_ context.Context, ref, args string) (containertypes.TopResponse, error) {
	_, err := find(ref)
	return containertypes.TopResponse{Titles: []string{"PID", "CMD"}, Processes: [][]string{{"1", "sleep " + args}}}, err
}

func (world) Changes(_ context.Context, ref string) ([]containertypes.FilesystemChange, error) {
	_, err := find(ref)
	return []containertypes.FilesystemChange{{Kind: containertypes.ChangeAdd, Path: "/new"}}, err
}

func (world) Export(_ context.Context, ref string, w io.Writer) error {
	id, err := find(ref)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(w, "tar of the root")
	if id == oldID {
		return errdefs.Internal("read blob: unexpected EOF")
	}
	return nil
}

var stat = containertypes.PathStat{Name: "hosts", Size: 9, Mode: os.FileMode(0o644), Mtime: time.Unix(1700000000, 0).UTC()}

func (world) StatPath(_ context.Context, ref, path string) (containertypes.PathStat, error) {
	if _, err := find(ref); err != nil {
		return containertypes.PathStat{}, err
	}
	if path != "/etc/hosts" {
		return containertypes.PathStat{}, errdefs.NotFound("Could not find the file %s in container %s", path, ref)
	}
	return stat, nil
}

func (w world) CopyFrom(ctx context.Context, ref, path string) (apicontainer.Archive, containertypes.PathStat, error) {
	s, err := w.StatPath(ctx, ref, path)
	return oneFile{}, s, err
}

type oneFile struct{}

func (oneFile) Pack(w io.Writer) error {
	_, err := io.WriteString(w, "tar of one file")
	return err
}

func (oneFile) Close() error { return nil }

func (world) CopyTo(_ context.Context, ref, path string, o containertypes.CopyToContainerOptions, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := echo(ref, path, o, string(b)); err != nil {
		return err
	}
	if path == "/ro" {
		return errdefs.PermissionDenied("container rootfs is marked read-only")
	}
	_, err = find(ref)
	return err
}

func (world) Attach(ctx context.Context, ref string, o apicontainer.AttachOptions) error {
	open := o.Open
	o.Open = nil
	if err := echo(ref, struct {
		Stdin, Stdout, Stderr, Logs, Stream bool
		DetachKeys                          string
	}{o.Stdin, o.Stdout, o.Stderr, o.Logs, o.Stream, o.DetachKeys}); err != nil {
		return err
	}
	if _, err := find(ref); err != nil {
		return err
	}
	tty := ref == "old"
	c, err := open(!tty)
	if err != nil {
		return err
	}
	defer c.Close()
	_, _ = io.WriteString(c.Stdout, "hello\n")
	_, _ = io.WriteString(c.Stderr, "oops\n")
	if o.Stdin && o.Stream {
		in, err := io.ReadAll(c.Stdin)
		if err != nil {
			return err
		}
		_, _ = c.Stdout.Write(in)
	}
	return nil
}

func (world) Logs(_ context.Context, ref string, o apicontainer.LogsOptions) error {
	if err := echo(ref, o.LogsOptions); err != nil {
		return err
	}
	id, err := find(ref)
	if err != nil {
		return err
	}
	stdout, stderr, err := o.Open(id == oldID)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(stdout, "hello\n")
	_, _ = io.WriteString(stderr, "oops\n")
	if o.Tail == "9" {
		return errdefs.Internal("log file is torn")
	}
	return nil
}

func (world) Stats(_ context.Context, ref string, stream, oneShot bool, emit func(*containertypes.StatsResponse) error) error {
	if err := echo(ref, stream, oneShot); err != nil {
		return err
	}
	id, err := find(ref)
	if err != nil {
		return err
	}
	for range 2 {
		if err := emit(&containertypes.StatsResponse{Name: "/web", ID: id}); err != nil || !stream {
			return err
		}
	}
	return nil
}

func (world) Resize(_ context.Context, ref string, h, w uint32) error {
	if err := echo(ref, h, w); err != nil {
		return err
	}
	id, err := find(ref)
	if id == oldID {
		return errdefs.Conflict("container %s is not running", oldID)
	}
	return err
}
