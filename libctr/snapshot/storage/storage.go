// Package storage is what snapshotters on directories share: their records, in a
// bbolt file of their own (Store), and the directories beside them (Dirs).
//
//	version/version      : decimal schema version, "1"; see migrations
//	snapshots/<key>      : JSON record: id, kind, parent, labels, times, usage
//	children/<parent>\0<key> : "" — the index that Remove and Commit ask
//
// An id names the directory of a snapshot: a decimal number that is never used
// twice while its directory exists. Ids are given in memory (NewID) before the
// record is written, so that directories are made outside of any transaction; an
// id without a record is what a crash left, see IDs.
//
// Write transactions, one each: Create, Commit, Remove, Update. None is open
// across other I/O. Each costs bbolt's two fdatasyncs.
package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/filter"
	"gantry/libctr/label"
)

// migrations[n] brings version n+1 up to n+2; a new file starts at the newest.
var migrations []func(*bbolt.Tx) error

var (
	bucketSnapshots = []byte("snapshots")
	bucketChildren  = []byte("children")
)

// errUnreadable is of a record that cannot be decoded; lists go without it.
var errUnreadable = errors.New("unreadable record of snapshot")

// maxKey bounds a key in bytes; bbolt's own bound is 32 KiB.
const maxKey = 4096

type record struct {
	ID      uint64            `json:"id"`
	Kind    snapshot.Kind     `json:"kind"`
	Parent  string            `json:"parent,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
	Updated time.Time         `json:"updated"`
	Inodes  int64             `json:"inodes,omitempty"` // of committed ones
	Size    int64             `json:"size,omitempty"`   // of committed ones, bytes
}

// Snapshot is a record with what its directory needs.
type Snapshot struct {
	Info    snapshot.Info
	ID      uint64
	Usage   snapshot.Usage // of committed ones
	Parents []uint64       // ids, nearest first
}

// Store is safe for concurrent use.
type Store struct {
	db   *database.DB
	next atomic.Uint64
}

// Open opens or makes the file at path.
func Open(path string) (*Store, error) {
	db, err := database.Open(path, database.Options{
		Timeout: 10 * time.Second, Schema: database.Schema{Bucket: "version", Steps: migrations},
	})
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	if err := s.prepare(); err != nil {
		db.Close()
		return nil, fmt.Errorf("open snapshot records %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) prepare() error {
	fresh := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketSnapshots)
		if b == nil {
			fresh = true
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var r record
			if json.Unmarshal(v, &r) == nil { // else see IDs
				s.Reserve(r.ID)
			}
			return nil
		})
	})
	if err != nil || !fresh {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketSnapshots, bucketChildren} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close waits for open transactions.
func (s *Store) Close() error { return s.db.Close() }

// Reserve makes NewID skip ids up to id, of a directory that was found.
func (s *Store) Reserve(id uint64) {
	for {
		cur := s.next.Load()
		if id <= cur || s.next.CompareAndSwap(cur, id) {
			return
		}
	}
}

// NewID returns an id that was not given before.
func (s *Store) NewID() uint64 { return s.next.Add(1) }

// Get returns the snapshot with its parents' ids.
func (s *Store) Get(key string) (out Snapshot, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		out, err = load(tx, key)
		return err
	})
	return out, err
}

// Create records a new active snapshot or view in the directory id. The parent
// must be committed.
func (s *Store) Create(kind snapshot.Kind, key, parent string, id uint64, labels map[string]string) (out Snapshot, err error) {
	if err := checkKey(key); err != nil {
		return out, err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		if _, err := get(tx, key); err == nil {
			return errdefs.AlreadyExists("snapshot %q: already exists", key)
		}
		if parent != "" {
			p, err := get(tx, parent)
			if err != nil {
				return errdefs.NotFound("parent snapshot %q: not found", parent)
			}
			if p.Kind != snapshot.KindCommitted {
				return errdefs.InvalidArgument("failed to create snapshot: parent %q is not committed snapshot: invalid argument", parent)
			}
			if err := tx.Bucket(bucketChildren).Put(childKey(parent, key), nil); err != nil {
				return err
			}
		}
		now := time.Now().UTC()
		r := record{ID: id, Kind: kind, Parent: parent, Labels: labels, Created: now, Updated: now}
		if err := put(tx, key, r); err != nil {
			return err
		}
		out, err = load(tx, key)
		return err
	})
	return out, err
}

// Commit turns the active snapshot key into the committed name. One without a parent
// gets the committed snapshot parent for one; "" leaves it as it is.
func (s *Store) Commit(name, key, parent string, usage snapshot.Usage, labels map[string]string) error {
	if err := checkKey(name); err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		r, err := get(tx, key)
		if err != nil {
			return err
		}
		if r.Kind != snapshot.KindActive {
			return errdefs.FailedPrecondition("snapshot %q is not active", key)
		}
		if _, err := get(tx, name); err == nil {
			return errdefs.AlreadyExists("snapshot %q: already exists", name)
		}
		if err := remove(tx, key, r); err != nil {
			return err
		}
		if r.Parent, err = rebased(tx, key, r.Parent, parent); err != nil {
			return err
		}
		r.Kind, r.Labels, r.Inodes, r.Size = snapshot.KindCommitted, labels, usage.Inodes, usage.Size
		r.Updated = time.Now().UTC()
		if r.Parent != "" {
			if err := tx.Bucket(bucketChildren).Put(childKey(r.Parent, name), nil); err != nil {
				return err
			}
		}
		return put(tx, name, r)
	})
}

// rebased is the parent of a snapshot that has one, or none, and is to have another.
func rebased(tx *bbolt.Tx, key, has, wants string) (string, error) {
	if wants == "" || wants == has {
		return has, nil
	}
	if has != "" {
		return has, errdefs.InvalidArgument("cannot change parent of active snapshot %q on commit", key)
	}
	p, err := get(tx, wants)
	if err != nil {
		return has, errdefs.NotFound("parent snapshot %q: not found", wants)
	}
	if p.Kind != snapshot.KindCommitted {
		return has, errdefs.FailedPrecondition("parent snapshot %q is not committed", wants)
	}
	return wants, nil
}

// Remove forgets the snapshot and returns the id of its directory, the caller's now.
func (s *Store) Remove(key string) (id uint64, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		r, err := get(tx, key)
		if err != nil {
			return err
		}
		id = r.ID
		return remove(tx, key, r)
	})
	return id, err
}

// Update replaces labels by field paths ("labels", "labels.KEY"), all when none are given.
func (s *Store) Update(info snapshot.Info, fieldpaths ...string) (out snapshot.Info, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		r, err := get(tx, info.Name)
		if err != nil {
			return err
		}
		if r.Labels, err = label.Update(r.Labels, info.Labels, fieldpaths...); err != nil {
			return err
		}
		r.Updated = time.Now().UTC()
		out = r.info(info.Name)
		return put(tx, info.Name, r)
	})
	return out, err
}

// WalkContext is Walk until ctx ends.
func (s *Store) WalkContext(ctx context.Context, fn func(snapshot.Info) error, filters ...string) error {
	return s.Walk(func(i snapshot.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fn(i)
	}, filters...)
}

// Walk calls fn, outside of any transaction, for each snapshot that passes.
func (s *Store) Walk(fn func(snapshot.Info) error, filters ...string) error {
	match, err := filter.Parse(filters...)
	if err != nil {
		return err
	}
	var all []snapshot.Info
	err = s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketSnapshots).ForEach(func(k, v []byte) error {
			var r record
			if json.Unmarshal(v, &r) != nil {
				return nil // see IDs
			}
			if info := r.info(string(k)); match.Match(filter.Snapshot(info)) {
				all = append(all, info)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, info := range all {
		if err := fn(info); err != nil {
			return err
		}
	}
	return nil
}

// IDs returns the ids that have a record. A record that cannot be read is an error: the
// directory that it names is not known.
func (s *Store) IDs() (map[uint64]bool, error) {
	ids := make(map[uint64]bool)
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketSnapshots).ForEach(func(k, v []byte) error {
			var r record
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("%s: %w %q: %w", s.db.Path(), errUnreadable, k, err)
			}
			ids[r.ID] = true
			return nil
		})
	})
	return ids, err
}

func (r record) info(key string) snapshot.Info {
	return snapshot.Info{Kind: r.Kind, Name: key, Parent: r.Parent, Labels: r.Labels, CreatedAt: r.Created, UpdatedAt: r.Updated}
}

func load(tx *bbolt.Tx, key string) (Snapshot, error) {
	r, err := get(tx, key)
	if err != nil {
		return Snapshot{}, err
	}
	out := Snapshot{Info: r.info(key), ID: r.ID, Usage: snapshot.Usage{Inodes: r.Inodes, Size: r.Size}}
	for parent := r.Parent; parent != ""; {
		p, err := get(tx, parent)
		if err != nil {
			return Snapshot{}, err
		}
		out.Parents = append(out.Parents, p.ID)
		parent = p.Parent
	}
	return out, nil
}

func get(tx *bbolt.Tx, key string) (r record, err error) {
	v := tx.Bucket(bucketSnapshots).Get([]byte(key))
	if v == nil {
		return r, errdefs.NotFound("snapshot %q: not found", key)
	}
	if err := json.Unmarshal(v, &r); err != nil {
		return r, fmt.Errorf("snapshot %q: %w", key, err)
	}
	return r, nil
}

func put(tx *bbolt.Tx, key string, r record) error {
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketSnapshots).Put([]byte(key), v)
}

// remove takes a snapshot without children out of both buckets.
func remove(tx *bbolt.Tx, key string, r record) error {
	prefix := childKey(key, "")
	if k, _ := tx.Bucket(bucketChildren).Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
		return errdefs.FailedPrecondition("snapshot %q has children", key)
	}
	if r.Parent != "" {
		if err := tx.Bucket(bucketChildren).Delete(childKey(r.Parent, key)); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketSnapshots).Delete([]byte(key))
}

func childKey(parent, key string) []byte { return []byte(parent + "\x00" + key) }

func checkKey(key string) error {
	if key == "" || len(key) > maxKey || strings.IndexByte(key, 0) >= 0 {
		return errdefs.InvalidArgument("snapshot key %q: must have 1 to %d bytes and no null byte", key, maxKey)
	}
	return nil
}

// parseID reads the name of a snapshot's directory.
func parseID(name string) (uint64, error) {
	id, err := strconv.ParseUint(name, 10, 64)
	if err == nil && strconv.FormatUint(id, 10) != name {
		err = errors.New("not a canonical number")
	}
	return id, err
}
