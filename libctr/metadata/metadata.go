// Package metadata keeps the core's records in one bbolt file, and collects what
// no record holds any more.
//
//	meta/version                                  : decimal schema version, "2"; see migrations
//	v1/<namespace>/labels/<key>                   : value
//	v1/<namespace>/containers/<id>                : containerd.services.containers.v1.Container
//	v1/<namespace>/images/<name>                  : containerd.services.images.v1.Image
//	v1/<namespace>/sandboxes/<id>                 : containerd.types.Sandbox
//	v1/<namespace>/content/<digest>               : containerd.services.content.v1.Info
//	v1/<namespace>/snapshots/<snapshotter>/keys/<key>              : JSON, see snapshotRecord
//	v1/<namespace>/snapshots/<snapshotter>/children/<parent>\0<key> : ""
//	v1/<namespace>/leases/<id>/lease              : containerd.services.leases.v1.Lease
//	v1/<namespace>/leases/<id>/resources/<type>\0<id> : ""
//
// Records of containers with container.LabelOfBoot are in a second file, under the same
// path, which does not outlive the boot and is not synced. It also has
//
//	v1/<namespace>/ingests/<ref>                  : JSON, see ingestRecord
//	v1/<namespace>/mounts/<name>                  : JSON, see mountRecord; ids are bucket v1's sequence
//
// Messages are protobuf, those of github.com/containerd/containerd/api. An ingest of a
// namespace is the backend's ingest "<namespace>/<ref>"; only one that was opened under
// a lease has a record.
//
// # Garbage
//
// The roots are containers, images and leases that have not expired, what a lease has as
// its resources, content and snapshots with a label that begins with
// containerd.io/gc.root, and what the labels of sandboxes refer to. A record holds what its
// fields name (a snapshot its parent, an image its target, a container its snapshot) and
// what its labels do: see load.go and conditions.go. A lease with containerd.io/gc.flat
// holds its resources with what their fields name, and nothing by labels. Records that
// nothing holds go in one transaction, then what the backends have without a record.
//
// As in containerd, a field or label may name what is not there, and expiry counts on
// leases and images only. Deliberately different are: an ingest that has a writer is never
// collected, and otherwise, without a lease, lives 24 hours from its last write, not from
// its opening; the leases of ingests do not outlive the boot, after which they have those
// 24 hours, too; a collection is also due when a lease or an image expires, and a schedule
// without a startup delay begins with one; mark and sweep do not keep readers and writers
// out but for the one transaction that removes records; and nothing is collected while a
// record cannot be read, for it may hold anything.
//
// Activations of mounts are no part of that graph: they hold nothing, and what holds them
// is looked for afterwards, when all that is there is held itself (Mounts.Sweep).
//
// # Write transactions
//
// Each costs bbolt's two fdatasyncs; none is open across a call to a backend.
//
//	container create, update, delete             1  0 when it is of the boot
//	image create, update, delete                 1
//	sandbox create, update, delete               1
//	mounts activate, deactivate                  0
//	namespace create, delete, set label          1
//	lease create, delete, add or delete resource 1
//	content commit                               1  after the backend's two fsyncs
//	content writer of a blob that is there       1  0 when the namespace has it and no lease is to be noted
//	content writer under a lease                 0  one in the file of the boot, not synced
//	content update, delete                       1
//	snapshot prepare, view, commit               1  after the backend's own (overlay: 1, commit also syncfs)
//	snapshot update, remove                      1  remove: the backend's own follows at collection
//	collection                                   1  0 when there is nothing to sweep
//
// # Two stores, no common transaction
//
// Content and snapshots live in a backend and have a record here. A thing is made
// in the backend first and recorded then; it is forgotten here first and removed
// from the backend by the collector. A crash in between leaves a thing without a
// record, never the other way round (but for an active snapshot between the two
// halves of its commit, whose record then only waits to be removed), and the
// collector takes it away. What is made but not yet recorded is protected by the
// lane of its digest, or by the snapshotter's pending set.
//
// Lock order: collector lane, lane of a digest or name, bbolt's writer lock;
// mutexes cover memory only.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/api/database"
	"gantry/libctr/core/container"
	"gantry/libctr/core/content"
	"gantry/libctr/core/event"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/namespace"
	"gantry/libctr/core/snapshot"
)

// Options say what a DB works on.
type Options struct {
	Content      content.Store                   // the blobs' backend
	Isolated     bool                            // namespaces must write the blobs that others have, unless these say they share
	Snapshotters map[string]snapshot.Snapshotter // the snapshots' backends by name, "overlayfs"
	Boot         string                          // the file of what does not outlive the boot; "" for none
	Events       event.Publisher                 // hears of snapshots that the collector removes; nil is nobody
	Log          *slog.Logger
	Now          func() time.Time // nil is time.Now; expiry goes by it
}

// DB is the open file and its backends. Safe for concurrent use.
type DB struct {
	bolt         *database.DB
	boot         *database.DB // nil for none
	content      *contentStore
	snapshotters map[string]*snapshotter
	events       event.Publisher
	log          *slog.Logger
	now          func() time.Time
	lanes        lanes
	collector    scheduler
	collected    hooks
	unreadable   sync.Map // records that the log has been told of, by kind, namespace and key
}

// Open opens or makes the file at path, and brings its schema up to date.
func Open(path string, o Options) (*DB, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b, err := database.Open(path, database.Options{Timeout: 10 * time.Second, Schema: database.Schema{Steps: migrations}})
	if err != nil {
		return nil, err
	}
	if err := makeRoot(b); err != nil {
		return nil, errors.Join(fmt.Errorf("open metadata %s: %w", path, err), b.Close())
	}
	boot, err := openBoot(o)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	db := &DB{bolt: b, boot: boot, events: o.Events, log: o.Log, now: o.Now, snapshotters: make(map[string]*snapshotter)}
	db.collector.init()
	db.content = &contentStore{db: db, backend: o.Content, isolated: o.Isolated}
	db.content.dirty.Store(true) // what a crash left
	for name, backend := range o.Snapshotters {
		db.snapshotters[name] = newSnapshotter(db, name, backend)
	}
	return db, nil
}

// Close waits for open transactions. The backends stay open; they are the caller's.
func (db *DB) Close() error {
	err := db.bolt.Close()
	if db.boot != nil {
		err = errors.Join(err, db.boot.Close())
	}
	return err
}

func openBoot(o Options) (*database.DB, error) {
	if o.Boot == "" {
		return nil, nil
	}
	if err := database.CheckBoot(o.Boot); err != nil { // without records, shims are ended
		return nil, err
	}
	db, err := database.OpenBoot(o.Boot, database.Schema{}, o.Log)
	if err != nil {
		return nil, err
	}
	if err := makeRoot(db); err != nil {
		return nil, errors.Join(fmt.Errorf("open metadata %s: %w", o.Boot, err), db.Close())
	}
	return db, nil
}

// Containers, Images, Leases, Namespaces and Content are the stores on this file;
// they work in the namespace of the context.
func (db *DB) Containers() container.Store { return containerStore{db} }
func (db *DB) Images() image.Store         { return imageStore{db} }
func (db *DB) Leases() lease.Manager       { return leaseManager{db} }
func (db *DB) Namespaces() namespace.Store { return namespaceStore{db} }
func (db *DB) Content() content.Store      { return db.content }

// Snapshotter returns the namespaced snapshotter of that name, nil when there is none.
func (db *DB) Snapshotter(name string) snapshot.Snapshotter {
	if s, ok := db.snapshotters[name]; ok {
		return s
	}
	return nil
}

// Snapshotters returns all of them by name.
func (db *DB) Snapshotters() map[string]snapshot.Snapshotter {
	out := make(map[string]snapshot.Snapshotter, len(db.snapshotters))
	for name, s := range db.snapshotters {
		out[name] = s
	}
	return out
}

// migrations[n] brings version n+1 up to n+2; a new file starts at the newest.
var migrations = []func(*bbolt.Tx) error{
	// To 2: containers of the boot are in a file of their own. An engine that does not
	// look there would end their shims, so it is to refuse this one.
	func(*bbolt.Tx) error { return nil },
}

var bucketV1 = []byte("v1")

func makeRoot(b *database.DB) error {
	made := false
	_ = b.View(func(tx *bbolt.Tx) error { made = tx.Bucket(bucketV1) != nil; return nil })
	if made {
		return nil
	}
	return b.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucketV1)
		return err
	})
}

// view runs a read transaction; fn must do no I/O of its own.
func (db *DB) view(fn func(tx *bbolt.Tx) error) error { return db.bolt.View(fn) }

// update runs one write transaction; fn must do no I/O of its own. The collector
// hears of it, see (*DB).Run.
func (db *DB) update(ctx context.Context, fn func(tx *bbolt.Tx) error) error {
	return db.updateIn(ctx, db.bolt, fn)
}

// updateIn is update of one of the two files.
func (db *DB) updateIn(ctx context.Context, file *database.DB, fn func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := file.Update(fn); err != nil {
		return err
	}
	db.collector.mutated()
	return nil
}

// bucket walks down from v1/<ns>; nil when a step is missing.
func bucket(tx *bbolt.Tx, ns string, path ...string) *bbolt.Bucket {
	b := tx.Bucket(bucketV1).Bucket([]byte(ns))
	for _, name := range path {
		if b == nil {
			return nil
		}
		b = b.Bucket([]byte(name))
	}
	return b
}

// makeBucket is bucket, making what is missing: so a record makes its namespace.
func makeBucket(tx *bbolt.Tx, ns string, path ...string) (*bbolt.Bucket, error) {
	b, err := tx.Bucket(bucketV1).CreateBucketIfNotExists([]byte(ns))
	for _, name := range path {
		if err != nil {
			return nil, err
		}
		b, err = b.CreateBucketIfNotExists([]byte(name))
	}
	return b, err
}

// get decodes the record key of b into m; found is false when there is none. b may be nil.
func get(b *bbolt.Bucket, key string, m proto.Message) (found bool, err error) {
	if b == nil || key == "" {
		return false, nil
	}
	v := b.Get([]byte(key))
	if v == nil {
		return false, nil
	}
	if err := proto.Unmarshal(v, m); err != nil {
		return false, fmt.Errorf("decode record %q: %w", key, err)
	}
	return true, nil
}

func put(b *bbolt.Bucket, key string, m proto.Message) error {
	v, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode record %q: %w", key, err)
	}
	return b.Put([]byte(key), v)
}

// each decodes every record of b with fn; b may be nil.
func each(b *bbolt.Bucket, fn func(key string, value []byte) error) error {
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return nil // a bucket
		}
		return fn(string(k), v)
	})
}

// passOver tells the log, once, of a record that cannot be decoded. Lists go without
// it; the collector stops at it, since what it holds is not known.
func (db *DB) passOver(ns, kind, key string, err error) {
	if _, told := db.unreadable.LoadOrStore(kind+"\x00"+ns+"\x00"+key, true); !told {
		db.log.Error("record cannot be read, left alone", "path", db.bolt.Path(), "namespace", ns, "kind", kind, "key", key, "err", err)
	}
}

// handOut calls fn for each of all, outside of any transaction, until it fails or ctx ends.
func handOut[T any](ctx context.Context, all []T, fn func(T) error) error {
	for _, v := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}
