package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/snapshot"
)

// Dirs keeps the directories of a snapshotter in step with its records:
//
//	<root>/metadata.db      records
//	<root>/snapshots/<id>   one directory for each record
//	<root>/removing/<id>    removed, being deleted in the background
//
// A directory is made before its record and moved aside after it, so that neither
// is done inside a transaction. What a crash leaves in between is a directory
// without a record, which Sweep takes away.
//
// Safe for concurrent use. Lock order: mu only; it is held over no I/O.
type Dirs struct {
	Records *Store

	root   string
	log    *slog.Logger
	kick   chan struct{} // wakes the remover
	cancel context.CancelFunc
	done   chan struct{} // closed when the remover has ended

	synced atomic.Pointer[instant] // when the last Sync that has succeeded began

	mu      sync.Mutex
	pending map[uint64]bool // directories whose record is not written yet; guarded by mu
}

// OpenDirs opens or makes root. Directories without a record go; for an active
// snapshot or view whose directory a power cut took, restore makes it again, empty; it
// is given what OpenDirs is about to return.
// Close ends what OpenDirs starts.
func OpenDirs(root string, log *slog.Logger, restore func(d *Dirs, dir string, sn Snapshot) error) (*Dirs, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	d := &Dirs{
		root: root, log: log, kick: make(chan struct{}, 1), done: make(chan struct{}),
		pending: make(map[uint64]bool),
	}
	for _, dir := range []string{root, d.path("snapshots"), d.path("removing")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if d.Records, err = Open(d.path("metadata.db")); err != nil {
		return nil, err
	}
	if err := d.reconcile(restore); err != nil {
		d.Records.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go d.remover(ctx)
	d.wake()
	return d, nil
}

func (d *Dirs) reconcile(restore func(d *Dirs, dir string, sn Snapshot) error) error {
	have, err := d.list()
	if err != nil {
		return err
	}
	for id := range have {
		d.Records.Reserve(id)
	}
	err = d.Records.Walk(func(i snapshot.Info) error {
		sn, err := d.Records.Get(i.Name)
		if err != nil || have[sn.ID] {
			return err
		}
		d.log.Warn("directory of a snapshot was lost", "snapshot", i.Name, "id", sn.ID)
		if i.Kind == snapshot.KindCommitted {
			return nil // its users will say so; an empty one would be wrong
		}
		if err := os.Mkdir(d.Dir(sn.ID), 0o700); err != nil {
			return err
		}
		return restore(d, d.Dir(sn.ID), sn)
	})
	if err != nil {
		return err
	}
	if err := d.Sweep(); !errors.Is(err, errUnreadable) {
		return err
	}
	d.log.Error("directories without a record are left alone", "err", err)
	return nil
}

func (d *Dirs) path(elem ...string) string {
	return filepath.Join(append([]string{d.root}, elem...)...)
}

// Root is the absolute path of it all.
func (d *Dirs) Root() string { return d.root }

// Dir is where the snapshot of an id is.
func (d *Dirs) Dir(id uint64) string { return d.path("snapshots", strconv.FormatUint(id, 10)) }

// Create makes a directory, fills it with fill and records the snapshot. When
// either fails, nothing is left.
func (d *Dirs) Create(kind snapshot.Kind, key, parent string, labels map[string]string,
	fill func(dir string, parents []uint64) error) (Snapshot, error) {
	var parents []uint64
	if parent != "" {
		p, err := d.Records.Get(parent)
		if err != nil {
			return Snapshot{}, fmt.Errorf("parent of snapshot %q: %w", key, err)
		}
		parents = append([]uint64{p.ID}, p.Parents...)
	}
	id := d.begin()
	defer d.end(id)
	err := os.Mkdir(d.Dir(id), 0o700)
	failpoint.Hit("libctr/snapshot/storage.create.directory")
	if err == nil {
		err = fill(d.Dir(id), parents)
	}
	if err != nil {
		d.discard(id)
		if err := d.removed(parent, parents); err != nil { // and its directory under fill's hands
			return Snapshot{}, fmt.Errorf("parent of snapshot %q: %w", key, err)
		}
		return Snapshot{}, fmt.Errorf("make snapshot %q: %w", key, err)
	}
	failpoint.Hit("libctr/snapshot/storage.create.filled")
	sn, err := d.Records.Create(kind, key, parent, id, labels)
	failpoint.Hit("libctr/snapshot/storage.create.recorded")
	if err != nil {
		d.discard(id)
	}
	return sn, err
}

// removed is NotFound when the parent has been removed since its chain was looked up.
func (d *Dirs) removed(parent string, chain []uint64) error {
	if parent == "" {
		return nil
	}
	p, err := d.Records.Get(parent)
	if err == nil && p.ID != chain[0] {
		err = errdefs.NotFound("snapshot %q: not found", parent)
	}
	if !errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// begin gives an id whose directory Sweep leaves alone until end.
func (d *Dirs) begin() uint64 {
	id := d.Records.NewID()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending[id] = true
	return id
}

func (d *Dirs) end(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, id)
}

// Remove forgets the snapshot; its tree is deleted in the background.
func (d *Dirs) Remove(key string) error {
	id, err := d.Records.Remove(key)
	failpoint.Hit("libctr/snapshot/storage.remove.forgotten")
	if err == nil {
		d.discard(id)
	}
	return err
}

// Close ends the background removal, waiting for the tree at hand, and closes the records.
func (d *Dirs) Close() error {
	d.cancel()
	<-d.done
	return d.Records.Close()
}

// list returns the ids that have a directory.
func (d *Dirs) list() (map[uint64]bool, error) {
	entries, err := os.ReadDir(d.path("snapshots"))
	if err != nil {
		return nil, err
	}
	ids := make(map[uint64]bool, len(entries))
	for _, e := range entries {
		if id, err := parseID(e.Name()); err == nil {
			ids[id] = true
		}
	}
	return ids, nil
}

// Sweep moves directories without a record aside. The order of the three looks
// counts: a directory listed first is either pending or has its record by then.
func (d *Dirs) Sweep() error {
	have, err := d.list()
	if err != nil {
		return err
	}
	d.mu.Lock()
	for id := range d.pending {
		delete(have, id)
	}
	d.mu.Unlock()
	recorded, err := d.Records.IDs()
	if err != nil {
		return err
	}
	for id := range have {
		if !recorded[id] {
			d.discard(id)
		}
	}
	return nil
}

// Cleanup is Sweep, and deletes what was moved aside before it returns.
func (d *Dirs) Cleanup(ctx context.Context) error {
	if err := errors.Join(d.Sweep(), d.empty(ctx)); err != nil {
		return fmt.Errorf("clean up snapshots: %w", err)
	}
	return nil
}

// discard moves the directory of id aside and wakes the remover. What cannot be
// moved is found again by the next sweep.
func (d *Dirs) discard(id uint64) {
	err := os.Rename(d.Dir(id), d.path("removing", strconv.FormatUint(id, 10)))
	failpoint.Hit("libctr/snapshot/storage.remove.aside")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("move removed snapshot aside", "id", id, "err", err)
	}
	d.wake()
}

func (d *Dirs) wake() {
	select {
	case d.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// remover deletes what is under removing whenever it is woken, until ctx ends.
func (d *Dirs) remover(ctx context.Context) {
	defer close(d.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		}
		if err := d.empty(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("delete removed snapshots", "err", err)
		}
	}
}

// empty deletes what is under removing.
func (d *Dirs) empty(ctx context.Context) error {
	entries, err := os.ReadDir(d.path("removing"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		errs = append(errs, os.RemoveAll(d.path("removing", e.Name())))
		failpoint.Hit("libctr/snapshot/storage.remove.deleted")
	}
	return errors.Join(errs...)
}
