package container

import (
	"context"
	"maps"
	"strings"

	"github.com/distribution/reference"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/go-connections/nat"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/daemon/image"
	"gantry/daemon/image/change"
	"gantry/daemon/spec"
)

// Commit makes an image of a container and returns its id. With o.Pause a running one is
// frozen while its files are read, and goes on whatever becomes of the commit.
func (s *Service) Commit(ctx context.Context, ref string, o containertypes.CommitOptions) (string, error) {
	e, err := s.find(ref)
	if err != nil {
		return "", err
	}
	if err := committable(e); err != nil {
		return "", err
	}
	if s.cfg.NoMappedLayers && !e.snapshot().IDs.Empty() {
		return "", errdefs.NotImplemented("commit of container %s: the core makes layers with the host's ids, and the container has its own; export it", ref)
	}
	c, err := s.commitOf(e.snapshot(), o)
	if err != nil {
		return "", err
	}
	c.Check = func() error { return committable(e) }
	if o.Pause {
		thaw, err := s.freeze(ctx, e)
		if err != nil {
			return "", err
		}
		defer thaw()
	}
	id, err := s.Images.Commit(ctx, c)
	if err != nil {
		if gone := committable(e); gone != nil {
			return "", gone
		}
		return "", err
	}
	attrs := map[string]string{"comment": o.Comment, "imageID": id.String(), "imageRef": ""}
	if c.Name != nil {
		attrs["imageRef"] = reference.FamiliarString(c.Name)
	}
	s.publish(e.snapshot(), events.ActionCommit, attrs)
	return id.String(), nil
}

// committable refuses a container whose files may be gone.
func committable(e *entry) error {
	gone := e.removing.Load()
	switch st := e.snapshot().Status; {
	case st == Dead:
		return errdefs.Conflict("You cannot commit container %s which is Dead", e.id)
	case st == Removing || gone:
		return errdefs.Conflict("You cannot commit container %s which is being removed", e.id)
	}
	return nil
}

// commitOf decides what image is to be made of c.
func (s *Service) commitOf(c *Snapshot, o containertypes.CommitOptions) (image.Commit, error) {
	config, err := commitConfig(c.Config, o)
	if err != nil {
		return image.Commit{}, err
	}
	out := image.Commit{
		Container: c.ID, Parent: c.Manifest, ParentID: c.Image, Platform: c.Platform, Config: config,
		Author: o.Author, Comment: o.Comment, CreatedBy: strings.Join(c.Config.Cmd, " "),
	}
	if o.Reference == "" {
		return out, nil
	}
	if out.Name, err = reference.ParseNormalizedNamed(o.Reference); err != nil {
		return out, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return out, image.CheckCommitName(out.Name)
}

// commitConfig is the configuration of an image made of a container with the
// configuration c: that of the request or else c, changed by the instructions, and what
// that leaves open from c.
func commitConfig(c *containertypes.Config, o containertypes.CommitOptions) (dockerspec.DockerOCIImageConfig, error) {
	base := o.Config
	if base == nil {
		base = c
	}
	changed, err := change.Apply(toImageConfig(base), o.Changes)
	if err != nil {
		return changed, err
	}
	own := toImageConfig(c)
	merged := fromImageConfig(changed)
	if err := spec.Merge(merged, &own); err != nil {
		return changed, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return toImageConfig(merged), nil
}

// toImageConfig is what an image can keep of a container's configuration.
func toImageConfig(c *containertypes.Config) dockerspec.DockerOCIImageConfig {
	out := dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: maps.Clone(c.Volumes),
			WorkingDir: c.WorkingDir, Labels: maps.Clone(c.Labels), StopSignal: c.StopSignal,
			ArgsEscaped: c.ArgsEscaped, //nolint:staticcheck // images keep it
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
			Healthcheck: c.Healthcheck, OnBuild: c.OnBuild, Shell: c.Shell,
		},
	}
	if len(c.ExposedPorts) > 0 {
		out.ExposedPorts = make(map[string]struct{}, len(c.ExposedPorts))
		for p := range c.ExposedPorts {
			out.ExposedPorts[string(p)] = struct{}{}
		}
	}
	return out
}

func fromImageConfig(c dockerspec.DockerOCIImageConfig) *containertypes.Config {
	out := &containertypes.Config{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes,
		WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
		ArgsEscaped: c.ArgsEscaped, //nolint:staticcheck // images keep it
		Healthcheck: c.Healthcheck, OnBuild: c.OnBuild, Shell: c.Shell,
		ExposedPorts: make(nat.PortSet, len(c.ExposedPorts)),
	}
	for p := range c.ExposedPorts {
		out.ExposedPorts[nat.Port(p)] = struct{}{}
	}
	return out
}
