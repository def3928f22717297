// Package overlay is the snapshotter on overlayfs: each snapshot is a directory
// that the next one takes as a lower layer.
//
//	<root>/metadata.db           records, see package storage
//	<root>/snapshots/<id>/fs     the layer; the upper directory of an active snapshot
//	<root>/snapshots/<id>/work   overlayfs's work directory, of active ones
//	<root>/removing/<id>         removed, being deleted in the background
//
// Prepare and View make the directories first, then write the record; Remove
// deletes the record, then moves the directory aside, so that it is quick however
// large the tree. What a crash leaves between these steps is a directory without
// a record, taken away by Cleanup and by the next New; an active snapshot whose
// directory a power cut lost is made again, empty. Commit syncs the filesystem
// before its record is written: a committed snapshot is whole on disk.
//
// Costs: Prepare, View, Update and Remove one write transaction of storage each;
// Commit one, and one syncfs.
//
// Lock order: Snapshotter.mu only; it is held over no I/O.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/snapshot/storage"
)

// Options change how a snapshotter works; the zero value is right.
type Options struct {
	MountOptions []string // further ones for each overlay mount
	Log          *slog.Logger
	// NoSync leaves out the syncfs of Commit, for throw-away roots.
	NoSync bool
}

// Snapshotter is a snapshot.Snapshotter. Safe for concurrent use; at most one
// process may use a root.
type Snapshotter struct {
	root    string
	options []string // of each overlay mount
	records *storage.Store
	log     *slog.Logger
	noSync  bool

	kick   chan struct{} // wakes the remover
	cancel context.CancelFunc
	done   chan struct{} // closed when the remover has ended

	mu      sync.Mutex
	pending map[uint64]bool // directories whose record is not written yet; guarded by mu
}

var _ snapshot.Snapshotter = (*Snapshotter)(nil)

// New opens or makes a snapshotter at root and reconciles its directories with its
// records. Close ends what it started.
func New(root string, o Options) (*Snapshotter, error) {
	s := &Snapshotter{
		root:    root,
		log:     o.Log,
		noSync:  o.NoSync,
		kick:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		pending: make(map[uint64]bool),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(o); err != nil {
		if s.records != nil {
			s.records.Close()
		}
		return nil, fmt.Errorf("open overlay snapshotter %s: %w", root, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.remover(ctx)
	s.wake()
	return s, nil
}

func (s *Snapshotter) open(o Options) (err error) {
	for _, dir := range []string{s.root, s.path("snapshots"), s.path("removing")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if s.records, err = storage.Open(s.path("metadata.db")); err != nil {
		return err
	}
	if s.options, err = mountOptions(s.root, o.MountOptions); err != nil {
		return err
	}
	ids, err := s.directories()
	if err != nil {
		return err
	}
	for id := range ids {
		s.records.Reserve(id)
	}
	if err := s.restore(ids); err != nil {
		return err
	}
	return s.sweep()
}

// restore makes the directories of records that have none, after a power cut.
func (s *Snapshotter) restore(have map[uint64]bool) error {
	return s.records.Walk(func(i snapshot.Info) error {
		sn, err := s.records.Get(i.Name)
		if err != nil || have[sn.ID] {
			return err
		}
		s.log.Warn("directory of a snapshot was lost", "snapshot", i.Name, "id", sn.ID)
		if i.Kind == snapshot.KindCommitted {
			return nil // its users will say so; an empty layer would be wrong
		}
		return s.makeDirs(sn.ID, i.Kind, sn.Parents)
	})
}

func (s *Snapshotter) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

func (s *Snapshotter) dir(id uint64) string {
	return s.path("snapshots", strconv.FormatUint(id, 10))
}

func (s *Snapshotter) upper(id uint64) string { return filepath.Join(s.dir(id), "fs") }
func (s *Snapshotter) work(id uint64) string  { return filepath.Join(s.dir(id), "work") }

// Stat implements snapshot.Snapshotter.
func (s *Snapshotter) Stat(_ context.Context, key string) (snapshot.Info, error) {
	sn, err := s.records.Get(key)
	return sn.Info, err
}

// Update implements snapshot.Snapshotter.
func (s *Snapshotter) Update(_ context.Context, info snapshot.Info, fieldpaths ...string) (snapshot.Info, error) {
	return s.records.Update(info, fieldpaths...)
}

// Usage implements snapshot.Snapshotter; that of an active snapshot is counted now.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	sn, err := s.records.Get(key)
	if err != nil {
		return snapshot.Usage{}, err
	}
	if sn.Info.Kind == snapshot.KindCommitted {
		return sn.Usage, nil
	}
	u, err := storage.DiskUsage(ctx, s.upper(sn.ID))
	if err != nil {
		return snapshot.Usage{}, fmt.Errorf("usage of snapshot %q: %w", key, err)
	}
	return u, nil
}

// Mounts implements snapshot.Snapshotter.
func (s *Snapshotter) Mounts(_ context.Context, key string) ([]mount.Mount, error) {
	sn, err := s.records.Get(key)
	if err != nil {
		return nil, err
	}
	if sn.Info.Kind == snapshot.KindCommitted {
		return nil, errdefs.FailedPrecondition("snapshot %q is committed: it has no mounts", key)
	}
	return s.mounts(sn), nil
}

// Prepare implements snapshot.Snapshotter.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshot.KindActive, key, parent, labels)
}

// View implements snapshot.Snapshotter.
func (s *Snapshotter) View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshot.KindView, key, parent, labels)
}

func (s *Snapshotter) create(_ context.Context, kind snapshot.Kind, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	var parents []uint64
	if parent != "" {
		p, err := s.records.Get(parent)
		if err != nil {
			return nil, fmt.Errorf("parent of snapshot %q: %w", key, err)
		}
		parents = append([]uint64{p.ID}, p.Parents...)
	}
	id := s.begin()
	defer s.end(id)
	if err := s.makeDirs(id, kind, parents); err != nil {
		s.discard(id)
		return nil, fmt.Errorf("make snapshot %q: %w", key, err)
	}
	sn, err := s.records.Create(kind, key, parent, id, labels)
	if err != nil {
		s.discard(id)
		return nil, err
	}
	return s.mounts(sn), nil
}

// begin gives an id whose directory Cleanup leaves alone until end.
func (s *Snapshotter) begin() uint64 {
	id := s.records.NewID()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[id] = true
	return id
}

func (s *Snapshotter) end(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, id)
}

// makeDirs makes the directories of a snapshot; the root of its tree looks like
// its parent's.
func (s *Snapshotter) makeDirs(id uint64, kind snapshot.Kind, parents []uint64) error {
	if err := os.Mkdir(s.dir(id), 0o700); err != nil {
		return err
	}
	upper := s.upper(id)
	if err := os.Mkdir(upper, 0o755); err != nil {
		return err
	}
	if kind == snapshot.KindActive {
		if err := os.Mkdir(s.work(id), 0o711); err != nil {
			return err
		}
	}
	if len(parents) == 0 {
		return os.Chmod(upper, 0o755) // whatever the umask
	}
	return copyOwner(upper, s.upper(parents[0]))
}

func copyOwner(to, from string) error {
	fi, err := os.Stat(from)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(to, fi.Mode())
}

// Commit implements snapshot.Snapshotter.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	sn, err := s.records.Get(key)
	if err != nil {
		return err
	}
	usage, err := storage.DiskUsage(ctx, s.upper(sn.ID))
	if err != nil {
		return fmt.Errorf("usage of snapshot %q: %w", key, err)
	}
	if err := s.sync(); err != nil {
		return fmt.Errorf("sync snapshot %q: %w", key, err)
	}
	return s.records.Commit(name, key, usage, labels)
}

func (s *Snapshotter) sync() error {
	if s.noSync {
		return nil
	}
	f, err := os.Open(s.root)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// Remove implements snapshot.Snapshotter. The tree is deleted in the background.
func (s *Snapshotter) Remove(_ context.Context, key string) error {
	id, err := s.records.Remove(key)
	if err != nil {
		return err
	}
	s.discard(id)
	return nil
}

// Walk implements snapshot.Snapshotter.
func (s *Snapshotter) Walk(ctx context.Context, fn func(snapshot.Info) error, filters ...string) error {
	return s.records.Walk(func(i snapshot.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fn(i)
	}, filters...)
}

// Close ends the background removal, waiting for the tree at hand, and closes the records.
func (s *Snapshotter) Close() error {
	s.cancel()
	<-s.done
	return s.records.Close()
}

// directories lists the ids under snapshots.
func (s *Snapshotter) directories() (map[uint64]bool, error) {
	entries, err := os.ReadDir(s.path("snapshots"))
	if err != nil {
		return nil, err
	}
	ids := make(map[uint64]bool, len(entries))
	for _, e := range entries {
		if id, err := storage.ParseID(e.Name()); err == nil {
			ids[id] = true
		}
	}
	return ids, nil
}

// sweep moves directories without a record aside. The order of the three looks
// counts: a directory listed first is either pending or has its record by then.
func (s *Snapshotter) sweep() error {
	have, err := s.directories()
	if err != nil {
		return err
	}
	s.mu.Lock()
	for id := range s.pending {
		delete(have, id)
	}
	s.mu.Unlock()
	recorded, err := s.records.IDs()
	if err != nil {
		return err
	}
	for id := range have {
		if !recorded[id] {
			s.discard(id)
		}
	}
	return nil
}

// discard moves the directory of id aside and wakes the remover. What cannot be
// moved is found again by the next sweep.
func (s *Snapshotter) discard(id uint64) {
	err := os.Rename(s.dir(id), s.path("removing", strconv.FormatUint(id, 10)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("move removed snapshot aside", "id", id, "err", err)
	}
	s.wake()
}

func (s *Snapshotter) wake() {
	select {
	case s.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// remover deletes what is under removing whenever it is woken, until ctx ends.
func (s *Snapshotter) remover(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		if err := s.empty(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("delete removed snapshots", "err", err)
		}
	}
}

// empty deletes what is under removing.
func (s *Snapshotter) empty(ctx context.Context) error {
	entries, err := os.ReadDir(s.path("removing"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		errs = append(errs, os.RemoveAll(s.path("removing", e.Name())))
	}
	return errors.Join(errs...)
}

// Cleanup implements snapshot.Snapshotter: when it returns, nothing removed before
// is left on disk.
func (s *Snapshotter) Cleanup(ctx context.Context) error {
	if err := s.sweep(); err != nil {
		return fmt.Errorf("clean up snapshots: %w", err)
	}
	if err := s.empty(ctx); err != nil {
		return fmt.Errorf("clean up snapshots: %w", err)
	}
	return nil
}

// mounts says how a snapshot is to be mounted.
func (s *Snapshotter) mounts(sn storage.Snapshot) []mount.Mount {
	readOnly := sn.Info.Kind == snapshot.KindView
	switch {
	case len(sn.Parents) == 0:
		return bind(s.upper(sn.ID), readOnly)
	case readOnly && len(sn.Parents) == 1:
		return bind(s.upper(sn.Parents[0]), true)
	}
	options := slices.Clone(s.options)
	if !readOnly {
		options = append(options, "workdir="+s.work(sn.ID), "upperdir="+s.upper(sn.ID))
	}
	lower := make([]byte, 0, 64*len(sn.Parents))
	for i, id := range sn.Parents {
		if i > 0 {
			lower = append(lower, ':')
		}
		lower = append(lower, s.upper(id)...)
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: append(options, "lowerdir="+string(lower))}}
}

func bind(dir string, readOnly bool) []mount.Mount {
	mode := "rw"
	if readOnly {
		mode = "ro"
	}
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{mode, "rbind"}}}
}
