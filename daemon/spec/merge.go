package spec

import (
	"errors"
	"maps"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/go-connections/nat"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Merge fills c with what the image says and the user did not. It fails when there is
// nothing to run.
func Merge(c *containertypes.Config, image *dockerspec.DockerOCIImageConfig) error {
	if image != nil {
		merge(c, image)
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // [""] asks for none
		c.Entrypoint = nil
	}
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return errors.New("no command specified")
	}
	return nil
}

func merge(c *containertypes.Config, image *dockerspec.DockerOCIImageConfig) {
	if c.User == "" {
		c.User = image.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = image.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = image.StopSignal
	}
	mergeEnvOf(c, image.Env)
	mergeCommand(c, image)
	mergeHealth(c, image.Healthcheck)
	if len(c.ExposedPorts) == 0 {
		c.ExposedPorts = nil
	}
	for p := range image.ExposedPorts {
		if c.ExposedPorts == nil {
			c.ExposedPorts = nat.PortSet{}
		}
		c.ExposedPorts[nat.Port(p)] = struct{}{}
	}
	labels := maps.Clone(image.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	if len(c.Volumes) == 0 {
		c.Volumes = nil
	}
	for v := range image.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
}

// mergeEnvOf appends the image's variables that the user did not name, with or without
// a value.
func mergeEnvOf(c *containertypes.Config, image []string) {
	if len(c.Env) == 0 {
		c.Env = slices.Clone(image)
		return
	}
	user := slices.Clone(c.Env)
	for _, e := range image {
		name, _, _ := strings.Cut(e, "=")
		if _, set := lookup(user, name); !set {
			c.Env = append(c.Env, e)
		}
	}
}

// mergeCommand: a given entrypoint makes the image's command void.
func mergeCommand(c *containertypes.Config, image *dockerspec.DockerOCIImageConfig) {
	if len(c.Entrypoint) > 0 {
		return
	}
	if len(c.Cmd) == 0 {
		c.Cmd = slices.Clone(strslice.StrSlice(image.Cmd))
	}
	if c.Entrypoint == nil {
		c.Entrypoint = slices.Clone(strslice.StrSlice(image.Entrypoint))
	}
}

func mergeHealth(c *containertypes.Config, image *containertypes.HealthConfig) {
	switch {
	case image == nil:
		return
	case c.Healthcheck == nil:
		h := *image
		c.Healthcheck = &h
		return
	}
	h := *c.Healthcheck
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	inherit(&h.Interval, image.Interval)
	inherit(&h.Timeout, image.Timeout)
	inherit(&h.StartPeriod, image.StartPeriod)
	inherit(&h.StartInterval, image.StartInterval)
	inherit(&h.Retries, image.Retries)
	c.Healthcheck = &h
}

func inherit[T comparable](v *T, image T) {
	var zero T
	if *v == zero {
		*v = image
	}
}

// Program splits the merged command into the program and its arguments.
func Program(c *containertypes.Config) (path string, args []string) {
	all := append(slices.Clone([]string(c.Entrypoint)), c.Cmd...)
	return all[0], all[1:]
}
