package server

import (
	"maps"
	"slices"

	"gantry/libctr/diff"
)

// StreamProcessor is a program that makes a layer of one media type of one of another;
// see diff.Processor for what it is given.
type StreamProcessor struct {
	Accepts []string `toml:"accepts"`
	Returns string   `toml:"returns"`
	Path    string   `toml:"path"`
	Args    []string `toml:"args"`
	Env     []string `toml:"env"`
}

// processors are the configured ones, by name: of two that accept the same the first is
// taken.
func (c Config) processors() (out []diff.Processor) {
	for _, id := range slices.Sorted(maps.Keys(c.StreamProcessors)) {
		p := c.StreamProcessors[id]
		out = append(out, diff.Processor{ID: id, Accepts: p.Accepts, Returns: p.Returns, Path: p.Path, Args: p.Args, Env: p.Env})
	}
	return out
}

func (c Config) checkProcessors(bad func(string, ...any)) {
	for _, id := range slices.Sorted(maps.Keys(c.StreamProcessors)) {
		if p := c.StreamProcessors[id]; len(p.Accepts) == 0 || p.Returns == "" || p.Path == "" {
			bad("stream_processors.%s: accepts, returns and path are needed", id)
		}
	}
}
