package change

import (
	"maps"
	"slices"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// clone copies what Apply changes in place; maps are there, if empty.
func clone(c dockerspec.DockerOCIImageConfig) dockerspec.DockerOCIImageConfig {
	c.Env, c.OnBuild = slices.Clone(c.Env), slices.Clone(c.OnBuild)
	c.Labels = cloned(c.Labels)
	c.ExposedPorts, c.Volumes = cloned(c.ExposedPorts), cloned(c.Volumes)
	return c
}

func cloned[V any](m map[string]V) map[string]V {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]V{}
	}
	return out
}
