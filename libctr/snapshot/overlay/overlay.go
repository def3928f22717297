// Package overlay is the snapshotter on overlayfs: each snapshot is a directory
// that the next one takes as a lower layer.
//
//	<root>/snapshots/<id>/fs     the layer; the upper directory of an active snapshot
//	<root>/snapshots/<id>/work   overlayfs's work directory, of active ones
//
// See package storage for the rest of the root, and for what happens in a crash.
// An active snapshot whose labels map its ids has the host's in its own directory, and
// shares the layers below, which whoever mounts it maps.
//
// A snapshot without a parent may be filled as an overlay's upper directory, with
// whiteouts, and be put onto its parent when it is committed.
//
// Commit syncs the filesystem before its record is written, unless that was done since the
// snapshot's last change: a committed snapshot is whole on disk.
//
// Costs: Prepare, View, Update and Remove one write transaction of storage each;
// Commit one, and one syncfs at most. Prepare makes three directories, Remove renames one.
package overlay

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/layer"
	"gantry/libctr/snapshot/idmap"
	"gantry/libctr/snapshot/storage"
)

// Options change how a snapshotter works; the zero value is right.
type Options struct {
	MountOptions []string // further ones for each overlay mount
	Log          *slog.Logger
	// UpperdirLabel shows of each snapshot where its directory is (snapshot.LabelUpperdir).
	UpperdirLabel bool
	// NoSync leaves out the syncfs of Commit, for throw-away roots.
	NoSync bool
}

// Snapshotter is a snapshot.Snapshotter. Safe for concurrent use; at most one
// process may use a root.
type Snapshotter struct {
	dirs    *storage.Dirs
	options []string // of each overlay mount
	noSync  bool
	tells   bool // where upper directories are
}

var (
	_ snapshot.Snapshotter = (*Snapshotter)(nil)
	_ snapshot.Rebaser     = (*Snapshotter)(nil)
)

// New opens or makes a snapshotter at root. Close ends what it started.
func New(root string, o Options) (*Snapshotter, error) {
	s := &Snapshotter{noSync: o.NoSync, tells: o.UpperdirLabel}
	var err error
	s.dirs, err = storage.OpenDirs(root, o.Log, func(d *storage.Dirs, dir string, sn storage.Snapshot) error {
		s.dirs = d // the parents are found by it
		return s.make(dir, sn.Info.Kind, sn.Parents, sn.Info.Labels)
	})
	if err != nil {
		return nil, fmt.Errorf("open overlay snapshotter %s: %w", root, err)
	}
	if s.options, err = mountOptions(s.dirs.Root(), o.MountOptions); err != nil {
		s.dirs.Close()
		return nil, fmt.Errorf("open overlay snapshotter: %w", err)
	}
	return s, nil
}

func (s *Snapshotter) upper(id uint64) string { return filepath.Join(s.dirs.Dir(id), "fs") }
func (s *Snapshotter) work(id uint64) string  { return filepath.Join(s.dirs.Dir(id), "work") }

// Stat implements snapshot.Snapshotter.
func (s *Snapshotter) Stat(_ context.Context, key string) (snapshot.Info, error) {
	sn, err := s.dirs.Records.Get(key)
	return s.told(sn), err
}

// TellsLabels implements snapshot.Teller.
func (s *Snapshotter) TellsLabels() bool { return s.tells }

// told is what is said of a snapshot.
func (s *Snapshotter) told(sn storage.Snapshot) snapshot.Info {
	if !s.tells || sn.ID == 0 {
		return sn.Info
	}
	labels := maps.Clone(sn.Info.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[snapshot.LabelUpperdir] = s.upper(sn.ID)
	sn.Info.Labels = labels
	return sn.Info
}

// Update implements snapshot.Snapshotter.
func (s *Snapshotter) Update(ctx context.Context, info snapshot.Info, fieldpaths ...string) (snapshot.Info, error) {
	out, err := s.dirs.Records.Update(info, fieldpaths...)
	if err != nil || !s.tells {
		return out, err
	}
	return s.Stat(ctx, info.Name)
}

// Usage implements snapshot.Snapshotter; that of an active snapshot is counted now.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	sn, err := s.dirs.Records.Get(key)
	if err != nil {
		return snapshot.Usage{}, err
	}
	if sn.Info.Kind != snapshot.KindActive { // a view has nothing of its own
		return sn.Usage, nil
	}
	return s.count(ctx, sn)
}

func (s *Snapshotter) count(ctx context.Context, sn storage.Snapshot) (snapshot.Usage, error) {
	u, err := storage.DiskUsage(ctx, s.upper(sn.ID))
	if err != nil {
		return snapshot.Usage{}, fmt.Errorf("usage of snapshot %q: %w", sn.Info.Name, err)
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

// Prepare implements snapshot.Snapshotter.
func (s *Snapshotter) Prepare(_ context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(snapshot.KindActive, key, parent, labels)
}

// View implements snapshot.Snapshotter.
func (s *Snapshotter) View(_ context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(snapshot.KindView, key, parent, labels)
}

func (s *Snapshotter) create(kind snapshot.Kind, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	sn, err := s.dirs.Create(kind, key, parent, labels, func(dir string, parents []uint64) error {
		return s.make(dir, kind, parents, labels)
	})
	if err != nil {
		return nil, err
	}
	return s.mounts(sn), nil
}

// make makes what is in a snapshot's directory; the root of its tree looks like its
// parent's, with its owner as the labels map it.
func (s *Snapshotter) make(dir string, kind snapshot.Kind, parents []uint64, labels map[string]string) error {
	upper := filepath.Join(dir, "fs")
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	if kind == snapshot.KindActive {
		if err := os.Mkdir(filepath.Join(dir, "work"), 0o711); err != nil {
			return err
		}
	}
	like := upper
	if len(parents) > 0 {
		like = s.upper(parents[0])
	}
	fi, err := os.Stat(like)
	if err != nil {
		return err
	}
	if err := copyOwner(upper, fi, labels); err != nil {
		return err
	}
	if len(parents) == 0 {
		return os.Chmod(upper, 0o755) // whatever the umask
	}
	return os.Chmod(upper, fi.Mode())
}

func copyOwner(to string, like os.FileInfo, labels map[string]string) error {
	st, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	uid, gid, err := idmap.Owner(labels, st.Uid, st.Gid)
	if err != nil {
		return err
	}
	return os.Lchown(to, int(uid), int(gid))
}

// Commit implements snapshot.Snapshotter.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	return s.CommitOnto(ctx, name, key, "", labels)
}

// CommitOnto implements snapshot.Rebaser.
func (s *Snapshotter) CommitOnto(ctx context.Context, name, key, parent string, labels map[string]string) error {
	sn, err := s.dirs.Records.Get(key)
	if err != nil {
		return err
	}
	if err := s.rebase(ctx, sn, parent); err != nil {
		return fmt.Errorf("put snapshot %q onto %q: %w", key, parent, err)
	}
	failpoint.Hit("libctr/snapshot/overlay.commit.rebased")
	usage, changed, err := storage.Survey(ctx, s.upper(sn.ID))
	if err != nil {
		return fmt.Errorf("usage of snapshot %q: %w", key, err)
	}
	if !s.noSync {
		if err := s.dirs.SyncChanged(changed); err != nil {
			return fmt.Errorf("sync snapshot %q: %w", key, err)
		}
	}
	failpoint.Hit("libctr/snapshot/overlay.commit.synced")
	return s.dirs.Records.Commit(name, key, parent, usage, labels)
}

// rebase makes the directories of a snapshot without a parent, those that its layer has
// only entries below of, look like the parent's. Records.Commit checks the rest.
func (s *Snapshotter) rebase(ctx context.Context, sn storage.Snapshot, parent string) error {
	if parent == "" || sn.Info.Parent != "" || sn.Info.Kind != snapshot.KindActive {
		return nil
	}
	p, err := s.dirs.Records.Get(parent)
	if err != nil {
		return err
	}
	lower := []string{s.upper(p.ID)}
	for _, id := range p.Parents {
		lower = append(lower, s.upper(id))
	}
	return layer.Rebase(ctx, layer.Target{Dir: s.upper(sn.ID), Lower: lower})
}

// Remove implements snapshot.Snapshotter. The tree is deleted in the background.
func (s *Snapshotter) Remove(_ context.Context, key string) error { return s.dirs.Remove(key) }

// Walk implements snapshot.Snapshotter.
func (s *Snapshotter) Walk(ctx context.Context, fn func(snapshot.Info) error, filters ...string) error {
	return s.dirs.Records.WalkContext(ctx, func(i snapshot.Info) error {
		if s.tells {
			sn, err := s.dirs.Records.Get(i.Name)
			if errdefs.IsNotFound(err) {
				return nil // removed meanwhile
			}
			if err != nil {
				return err
			}
			i = s.told(sn)
		}
		return fn(i)
	}, filters...)
}

// Cleanup implements snapshot.Snapshotter: when it returns, nothing removed before
// is left on disk.
func (s *Snapshotter) Cleanup(ctx context.Context) error { return s.dirs.Cleanup(ctx) }

// Close ends the background removal, waiting for the tree at hand.
func (s *Snapshotter) Close() error { return s.dirs.Close() }

// mounts says how a snapshot is to be mounted: without or with one read-only
// parent no overlay is needed.
func (s *Snapshotter) mounts(sn storage.Snapshot) []mount.Mount {
	readOnly := sn.Info.Kind == snapshot.KindView
	switch {
	case len(sn.Parents) == 0:
		return bind(s.upper(sn.ID), readOnly)
	case readOnly && len(sn.Parents) == 1:
		return bind(s.upper(sn.Parents[0]), true)
	}
	options := append(slices.Clone(s.options), idmap.Options(sn.Info.Labels)...)
	if !readOnly {
		options = append(options, "workdir="+s.work(sn.ID), "upperdir="+s.upper(sn.ID))
	}
	lower := make([]string, len(sn.Parents))
	for i, id := range sn.Parents {
		lower[i] = s.upper(id)
	}
	return []mount.Mount{{
		Type: "overlay", Source: "overlay", Options: append(options, "lowerdir="+strings.Join(lower, ":")),
	}}
}

func bind(dir string, readOnly bool) []mount.Mount {
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{mode, "rbind"}}}
}
