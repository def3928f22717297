// Package native is the snapshotter for filesystems without overlayfs: each
// snapshot is a whole copy of its parent, with shared data where the filesystem
// can (reflinks).
//
//	<root>/snapshots/<id>/fs   the tree
//
// See package storage for the rest of the root, and for what happens in a crash.
// Its ids are those of the inside, also where labels map them: then whoever mounts it does.
//
// A view shows its parent's tree itself. Costs: as overlay's, and a copy of the
// parent in Prepare.
package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/layer"
	"gantry/libctr/snapshot/idmap"
	"gantry/libctr/snapshot/storage"
)

// Options change how a snapshotter works; the zero value is right.
type Options struct {
	Log *slog.Logger
	// NoSync leaves out the syncfs of Commit, for throw-away roots.
	NoSync bool
}

// Snapshotter is a snapshot.Snapshotter. Safe for concurrent use; at most one
// process may use a root.
type Snapshotter struct {
	dirs   *storage.Dirs
	noSync bool
}

var _ snapshot.Snapshotter = (*Snapshotter)(nil)

// New opens or makes a snapshotter at root. Close ends what it started.
func New(root string, o Options) (*Snapshotter, error) {
	s := &Snapshotter{noSync: o.NoSync}
	var err error
	s.dirs, err = storage.OpenDirs(root, o.Log, func(d *storage.Dirs, dir string, sn storage.Snapshot) error {
		s.dirs = d // the parents are found by it
		return s.make(context.Background(), dir, sn.Info.Kind, sn.Parents)
	})
	if err != nil {
		return nil, fmt.Errorf("open native snapshotter %s: %w", root, err)
	}
	return s, nil
}

func (s *Snapshotter) tree(id uint64) string { return filepath.Join(s.dirs.Dir(id), "fs") }

// Stat implements snapshot.Snapshotter.
func (s *Snapshotter) Stat(_ context.Context, key string) (snapshot.Info, error) {
	sn, err := s.dirs.Records.Get(key)
	return sn.Info, err
}

// Update implements snapshot.Snapshotter.
func (s *Snapshotter) Update(_ context.Context, info snapshot.Info, fieldpaths ...string) (snapshot.Info, error) {
	return s.dirs.Records.Update(info, fieldpaths...)
}

// Usage implements snapshot.Snapshotter; that of an active snapshot is counted now,
// the copied part too.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	sn, err := s.dirs.Records.Get(key)
	if err != nil || sn.Info.Kind != snapshot.KindActive { // a view has nothing of its own
		return sn.Usage, err
	}
	u, err := storage.DiskUsage(ctx, s.tree(sn.ID))
	if err != nil {
		return snapshot.Usage{}, fmt.Errorf("usage of snapshot %q: %w", key, err)
	}
	return u, nil
}

// Mounts implements snapshot.Snapshotter.
func (s *Snapshotter) Mounts(_ context.Context, key string) ([]mount.Mount, error) {
	sn, err := s.dirs.Records.Get(key)
	if err != nil {
		return nil, err
	}
	if sn.Info.Kind == snapshot.KindCommitted {
		return nil, errdefs.FailedPrecondition("snapshot %q is committed: it has no mounts", key)
	}
	return s.mounts(sn), nil
}

func (s *Snapshotter) mounts(sn storage.Snapshot) []mount.Mount {
	dir, mode := s.tree(sn.ID), "rw"
	if sn.Info.Kind == snapshot.KindView {
		mode = "ro"
		if len(sn.Parents) > 0 {
			dir = s.tree(sn.Parents[0])
		}
	}
	return []mount.Mount{{Type: "bind", Source: dir, Options: append([]string{mode, "rbind"}, idmap.Options(sn.Info.Labels)...)}}
}

// Prepare implements snapshot.Snapshotter.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshot.KindActive, key, parent, labels)
}

// View implements snapshot.Snapshotter.
func (s *Snapshotter) View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshot.KindView, key, parent, labels)
}

func (s *Snapshotter) create(ctx context.Context, kind snapshot.Kind, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	if err := errors.Join(s.creatable(key, parent), idmap.Check(labels)); err != nil {
		return nil, err // before a large copy is made for nothing
	}
	sn, err := s.dirs.Create(kind, key, parent, labels, func(dir string, parents []uint64) error {
		return s.make(ctx, dir, kind, parents)
	})
	if err != nil {
		return nil, err
	}
	return s.mounts(sn), nil
}

func (s *Snapshotter) creatable(key, parent string) error {
	if _, err := s.dirs.Records.Get(key); err == nil {
		return errdefs.AlreadyExists("snapshot %q: already exists", key)
	}
	if parent == "" {
		return nil
	}
	p, err := s.dirs.Records.Get(parent)
	if err == nil && p.Info.Kind != snapshot.KindCommitted {
		err = errdefs.InvalidArgument("failed to create snapshot: parent %q is not committed snapshot: invalid argument", parent)
	}
	return err
}

// make makes what is in a snapshot's directory.
func (s *Snapshotter) make(ctx context.Context, dir string, kind snapshot.Kind, parents []uint64) error {
	tree := filepath.Join(dir, "fs")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if len(parents) == 0 || kind == snapshot.KindView {
		return os.Chmod(tree, 0o755) // whatever the umask
	}
	return layer.CopyTree(ctx, tree, s.tree(parents[0]))
}

// Commit implements snapshot.Snapshotter.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	usage, err := s.Usage(ctx, key)
	if err != nil {
		return err
	}
	if !s.noSync {
		if err := s.dirs.Sync(); err != nil {
			return fmt.Errorf("sync snapshot %q: %w", key, err)
		}
	}
	return s.dirs.Records.Commit(name, key, "", usage, labels)
}

// Remove implements snapshot.Snapshotter. The tree is deleted in the background.
func (s *Snapshotter) Remove(_ context.Context, key string) error { return s.dirs.Remove(key) }

// Walk implements snapshot.Snapshotter.
func (s *Snapshotter) Walk(ctx context.Context, fn func(snapshot.Info) error, filters ...string) error {
	return s.dirs.Records.WalkContext(ctx, fn, filters...)
}

// Cleanup implements snapshot.Snapshotter: when it returns, nothing removed before
// is left on disk.
func (s *Snapshotter) Cleanup(ctx context.Context) error { return s.dirs.Cleanup(ctx) }

// Close ends the background removal, waiting for the tree at hand.
func (s *Snapshotter) Close() error { return s.dirs.Close() }
