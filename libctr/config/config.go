// Package config reads a core's configuration: a TOML file of any version that
// containerd has had, and the files that it imports, as one tree of the latest
// version known here. What a key means is the caller's business; this package knows
// only how files are found, brought up to date and put together.
//
// Files are taken in the order in which containerd takes them: the main one, then
// what it imports, then what those import; each is migrated by its own version and
// laid over what came before (see merge). A file counts once, so that a circle of
// imports ends.
package config

import (
	"context"
	"log/slog"
)

// Version is the one that trees are brought to.
const Version = 3

// Tree is a configuration, as TOML has it.
type Tree = map[string]any

// Migration moves what has become another plugin's, or has another key, between the
// tables of the plugins, which are by URI. It is asked once for each version from
// which a file is brought to the next.
type Migration func(ctx context.Context, from int, plugins map[string]any) error

// Reader reads configurations.
type Reader struct {
	// Schema makes what a file is decoded into; a key that has no place there is
	// reported and left out, a value of another type is an error.
	Schema     func() any
	Migrations []Migration
	Log        *slog.Logger // nil is slog's default
}

// Load reads the file at path and its imports. An error names the file, and the
// line and column where there are any.
func (r Reader) Load(ctx context.Context, path string) (Tree, error) {
	all := Tree{"version": int64(Version)}
	loaded := map[string]bool{}
	for pending := []source{{path: path}}; len(pending) > 0; {
		next := pending[0]
		pending = pending[1:]
		if loaded[next.path] {
			continue
		}
		if loaded[next.path] = true; len(loaded) > maxFiles {
			return nil, tooMany(next)
		}
		tree, err := r.file(ctx, next)
		if err != nil {
			return nil, err
		}
		imports, err := next.imports(tree)
		if err != nil {
			return nil, err
		}
		pending = append(pending, imports...)
		merge(all, tree)
	}
	return all, nil
}

func (r Reader) log() *slog.Logger {
	if r.Log == nil {
		return slog.Default()
	}
	return r.Log
}
