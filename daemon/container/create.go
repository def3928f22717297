package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/platforms"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	networktypes "github.com/docker/docker/api/types/network"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/host"
	"gantry/daemon/hostpath"
	"gantry/daemon/image"
	"gantry/daemon/logger"
	"gantry/daemon/name"
	"gantry/daemon/spec"
	"gantry/daemon/userns"
)

const undoTime = 30 * time.Second

// Create makes a container; it is on disk when it is answered. The checks are made in
// dockerd's order and the first failure is answered.
func (s *Service) Create(ctx context.Context, o apicontainer.CreateOptions) (_ containertypes.CreateResponse, err error) {
	if o.Config == nil {
		return containertypes.CreateResponse{}, errdefs.InvalidArgument("config cannot be empty in order to create a container")
	}
	if o.HostConfig == nil {
		o.HostConfig = &containertypes.HostConfig{}
	}
	normalize(&o)
	warnings, err := spec.Validate(o.Config, o.HostConfig, s.machine(s.cfg.Remap), false)
	warnings = append(o.Warnings, warnings...)
	if err != nil {
		return containertypes.CreateResponse{Warnings: warnings}, invalid(err)
	}
	img, warning, err := s.resolveImage(ctx, o)
	if err != nil {
		return containertypes.CreateResponse{}, err
	}
	if warning != "" {
		warnings = append(warnings, warning)
	}
	if err := checkEndpoints(o.NetworkingConfig); err != nil {
		return containertypes.CreateResponse{Warnings: warnings}, err
	}
	s.adapt(o.HostConfig)
	c, w, err := s.create(ctx, o, img)
	if err != nil {
		return containertypes.CreateResponse{Warnings: warnings}, err
	}
	warnings = append(warnings, w...)
	if warnings == nil {
		warnings = []string{}
	}
	return containertypes.CreateResponse{ID: c.ID, Warnings: warnings}, nil
}

func normalize(o *apicontainer.CreateOptions) {
	h := o.HostConfig
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = containertypes.RestartPolicyDisabled
	}
	if h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil
	}
	spec.NormalNetwork(h, o.NetworkingConfig)
}

// machine is what a container's settings are checked against; ids are those of its user
// namespace, if it wants none of the host's.
func (s *Service) machine(ids userns.Mapping) spec.Machine {
	f, live := s.cfg.Host, s.live.Load()
	f.IPv4Forwarding = host.Forwarding()
	return spec.Machine{
		Host: f, SystemdCgroup: s.cfg.SystemdCgroup, DefaultRuntime: live.DefaultRuntime, Remapped: !ids.Empty(),
		Runtime: func(n string) bool { _, ok := live.find(n); return ok },
		Exists:  pathExists,
	}
}

func pathExists(path string) (bool, error) {
	return hostpath.Exists(context.Background(), path) // bounded by itself
}

// invalid gives an error without a class that of bad input.
func invalid(err error) error {
	if errdefs.Class(err) != nil {
		return err
	}
	return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
}

func (s *Service) resolveImage(ctx context.Context, o apicontainer.CreateOptions) (img *image.Image, warning string, err error) {
	if o.Config.Image == "" {
		return nil, "", nil
	}
	img, err = s.Images.Resolve(ctx, o.Config.Image, o.Platform)
	if err != nil || o.Platform != nil {
		return img, "", err
	}
	if p := img.Config.Platform; !platforms.Only(platforms.DefaultSpec()).Match(p) {
		warning = fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
			platforms.FormatAll(p), platforms.FormatAll(platforms.DefaultSpec()))
	}
	return img, warning, nil
}

func checkEndpoints(n *networktypes.NetworkingConfig) error {
	if n == nil {
		return nil
	}
	for k, v := range n.EndpointsConfig {
		if v == nil {
			return errdefs.InvalidArgument("invalid config for network %s: EndpointsConfig is nil", k)
		}
		if err := spec.CheckEndpoint(v); err != nil {
			return err
		}
	}
	return nil
}

// adapt fills in defaults and turns names of containers whose namespaces are shared
// into ids, so that a rename does not part them.
func (s *Service) adapt(h *containertypes.HostConfig) {
	spec.Adapt(h, s.live.Load().Defaults, s.cfg.Host)
	byID := func(ref string) (string, bool) {
		e, err := s.find(ref)
		if ref == "" || err != nil {
			return "", false
		}
		return "container:" + e.id, true
	}
	if id, ok := byID(h.PidMode.Container()); ok {
		h.PidMode = containertypes.PidMode(id)
	}
	if id, ok := byID(h.IpcMode.Container()); ok {
		h.IpcMode = containertypes.IpcMode(id)
	}
	if id, ok := byID(h.NetworkMode.ConnectedContainer()); ok {
		h.NetworkMode = containertypes.NetworkMode(id)
	}
}

// create makes what belongs to a container, in steps that are taken back on failure.
func (s *Service) create(ctx context.Context, o apicontainer.CreateOptions, img *image.Image) (_ *Record, warnings []string, err error) {
	var steps undo.Stack
	defer func() { steps.OnError(ctx, undoTime, &err) }()

	if err := spec.Merge(o.Config, imageConfig(img)); err != nil {
		return nil, nil, invalid(err)
	}
	o.HostConfig.LogConfig = logger.Merge(o.HostConfig.LogConfig, s.cfg.Log)
	c, err := s.newRecord(o, img, &steps)
	if err != nil {
		return nil, nil, err
	}
	security, err := spec.ParseSecurity(o.HostConfig.SecurityOpt, s.cfg.NoNewPrivileges)
	if err != nil {
		return nil, nil, invalid(err)
	}
	if err := s.Networks.Validate(s.networkRequest(c)); err != nil {
		return nil, nil, err
	}
	if err := s.makeParts(ctx, c, img, o.TopReadOnly, &steps); err != nil {
		return nil, nil, err
	}
	failpoint.Hit("daemon/container.create.filled")
	if err := s.register(c); err != nil {
		return nil, nil, err
	}
	warnings = spec.Unsupported(security)
	return c, warnings, nil
}

func imageConfig(img *image.Image) *dockerspec.DockerOCIImageConfig {
	if img == nil {
		return nil
	}
	return &img.Config.Config
}

func (s *Service) newRecord(o apicontainer.CreateOptions, img *image.Image, steps *undo.Stack) (*Record, error) {
	set, err := logger.ParseNew(o.HostConfig.LogConfig)
	if err != nil {
		return nil, invalid(err)
	}
	id := newID()
	n, err := s.reserve(o.Name, id)
	if err != nil {
		return nil, err
	}
	steps.Add("release name", func(context.Context) error { s.index.Release(n, id); return nil })
	if o.Config.Hostname == "" {
		if o.Config.Hostname, err = s.hostname(id, o.HostConfig.NetworkMode.IsHost()); err != nil {
			return nil, err
		}
	}
	path, args := spec.Program(o.Config)
	c := &Record{
		ID: id, Name: n, Created: time.Now().UTC(), Path: path, Args: args,
		Config: o.Config, Host: o.HostConfig, Platform: platforms.DefaultSpec(),
		Endpoints: endpoints(o.HostConfig.NetworkMode, o.NetworkingConfig),
	}
	if c.Args == nil {
		c.Args = []string{}
	}
	if o.HostConfig.UsernsMode.IsPrivate() {
		c.IDs = s.cfg.Remap
	}
	if img != nil {
		manifest := img.Manifest
		c.Image, c.Manifest, c.Platform = img.ID, &manifest, img.Config.Platform
	}
	c.LogPath = set.Path(s.dir(id), id)
	return c, nil
}

func newID() string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

func (s *Service) hostname(id string, ofHost bool) (string, error) {
	if !ofHost {
		return id[:12], nil
	}
	if s.cfg.Hostname != "" {
		return s.cfg.Hostname, nil
	}
	return os.Hostname()
}

// endpoints are the networks of a new container: the one that its mode names, and what
// was asked for beside it.
func endpoints(mode containertypes.NetworkMode, n *networktypes.NetworkingConfig) map[string]*networktypes.EndpointSettings {
	out := map[string]*networktypes.EndpointSettings{}
	if mode.IsContainer() {
		return out
	}
	if n != nil {
		for k, v := range n.EndpointsConfig {
			out[k] = v.Copy()
		}
	}
	if key := mode.NetworkName(); out[key] == nil {
		out[key] = &networktypes.EndpointSettings{}
	}
	return out
}

// reserve takes a name for id: the given one, or two random words that are free.
func (s *Service) reserve(wanted, id string) (string, error) {
	if wanted != "" {
		n := name.Trim(wanted)
		if !name.Valid(n) {
			return "", errdefs.InvalidArgument("Invalid container name (%s), only %s are allowed", wanted, name.Chars)
		}
		if holder, ok := s.index.Reserve(n, id); !ok {
			return "", errNameTaken(n, holder)
		}
		return n, nil
	}
	for i := range 6 {
		n := name.Random(i)
		if _, ok := s.index.Reserve(n, id); ok {
			return n, nil
		}
	}
	n := id[:12]
	s.index.Reserve(n, id)
	return n, nil
}

func errNameTaken(n, holder string) error {
	return errdefs.Conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+n, holder)
}

// dir is the container's own directory.
func (s *Service) dir(id string) string { return filepath.Join(s.cfg.Root, id) }

// makeParts makes the root's snapshot, the directory and the volumes.
func (s *Service) makeParts(ctx context.Context, c *Record, img *image.Image, topReadOnly bool, steps *undo.Stack) error {
	// The directory first: where there is one without a record, Restore clears up.
	if err := os.MkdirAll(s.dir(c.ID), 0o710); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.create.directory")
	steps.Add("remove directory", func(context.Context) error { return os.RemoveAll(s.dir(c.ID)) })
	if err := s.Images.Prepare(ctx, img, c.ID, userns.Labels(c.IDs)); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.create.snapshot")
	steps.Add("remove snapshot", func(ctx context.Context) error { return s.Images.RemoveSnapshot(ctx, c.ID) })
	if err := s.limitRoot(ctx, c, steps); err != nil {
		return err
	}
	if err := s.mountPoints(ctx, c, topReadOnly, steps); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.create.volumes")
	if err := s.linkAll(c, steps); err != nil {
		return err
	}
	return s.fillRoot(ctx, c)
}

// register writes the container and makes it visible.
func (s *Service) register(c *Record) error {
	snap := Snapshot{Record: c, State: State{Status: Created}}
	if err := s.store.put(&snap); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.create.recorded")
	s.add(newEntry(snap))
	s.publish(&snap, events.ActionCreate, nil)
	return nil
}
