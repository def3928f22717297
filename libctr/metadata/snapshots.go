package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/filter"
	"gantry/libctr/label"
)

const (
	bucketSnapshots = "snapshots"
	bucketKeys      = "keys"
	bucketChildren  = "children"
)

// inherited is the prefix of the labels that the backend is told too.
const inherited = "containerd.io/snapshot/"

// snapshotRecord is the value of v1/<ns>/snapshots/<snapshotter>/keys/<key>.
type snapshotRecord struct {
	Backend string            `json:"backend"` // the backend's key: <ns>/<random>/<key>
	Kind    snapshot.Kind     `json:"kind"`
	Parent  string            `json:"parent,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
	Updated time.Time         `json:"updated"`
}

func (r snapshotRecord) info(key string) snapshot.Info {
	return snapshot.Info{Kind: r.Kind, Name: key, Parent: r.Parent, Labels: r.Labels, CreatedAt: r.Created, UpdatedAt: r.Updated}
}

// snapshotter gives each namespace its own keys in one backend.
type snapshotter struct {
	db      *DB
	name    string
	backend snapshot.Snapshotter
	dirty   atomic.Bool // the backend may have snapshots without a record

	mu      sync.Mutex
	pending map[string]bool // backend keys not recorded yet; guarded by mu
}

var (
	_ snapshot.Snapshotter = (*snapshotter)(nil)
	_ snapshot.Rebaser     = (*snapshotter)(nil)
)

func newSnapshotter(db *DB, name string, backend snapshot.Snapshotter) *snapshotter {
	s := &snapshotter{db: db, name: name, backend: backend, pending: make(map[string]bool)}
	s.dirty.Store(true) // what a crash left
	return s
}

func (s *snapshotter) keys(tx *bbolt.Tx, ns string) *bbolt.Bucket {
	return bucket(tx, ns, bucketSnapshots, s.name, bucketKeys)
}

func (s *snapshotter) children(tx *bbolt.Tx, ns string) *bbolt.Bucket {
	return bucket(tx, ns, bucketSnapshots, s.name, bucketChildren)
}

func (s *snapshotter) makeBuckets(tx *bbolt.Tx, ns string) error {
	for _, name := range []string{bucketKeys, bucketChildren} {
		if _, err := makeBucket(tx, ns, bucketSnapshots, s.name, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshotter) get(tx *bbolt.Tx, ns, key string) (r snapshotRecord, err error) {
	return getSnapshot(s.keys(tx, ns), key)
}

func getSnapshot(keys *bbolt.Bucket, key string) (r snapshotRecord, err error) {
	var v []byte
	if keys != nil && key != "" {
		v = keys.Get([]byte(key))
	}
	if v == nil {
		return r, errdefs.NotFound("snapshot %s does not exist: not found", key)
	}
	if err := json.Unmarshal(v, &r); err != nil {
		return r, fmt.Errorf("decode snapshot %q: %w", key, err)
	}
	return r, nil
}

// put writes the record and its entry among the parent's children.
func (s *snapshotter) put(tx *bbolt.Tx, ns, key string, r snapshotRecord) error {
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if r.Parent != "" {
		if err := s.children(tx, ns).Put(childKey(r.Parent, key), nil); err != nil {
			return err
		}
	}
	return s.keys(tx, ns).Put([]byte(key), v)
}

// drop takes the record and its entry among the parent's children away.
func (s *snapshotter) drop(tx *bbolt.Tx, ns, key string, r snapshotRecord) error {
	if r.Parent != "" {
		if err := s.children(tx, ns).Delete(childKey(r.Parent, key)); err != nil {
			return err
		}
	}
	return s.keys(tx, ns).Delete([]byte(key))
}

func childKey(parent, key string) []byte { return []byte(parent + "\x00" + key) }

// look reads one record in a transaction of its own.
func (s *snapshotter) look(ctx context.Context, key string) (r snapshotRecord, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return r, err
	}
	err = s.db.view(func(tx *bbolt.Tx) error {
		r, err = s.get(tx, ns, key)
		return err
	})
	return r, err
}

func (s *snapshotter) Stat(ctx context.Context, key string) (snapshot.Info, error) {
	r, err := s.look(ctx, key)
	if err != nil {
		return snapshot.Info{}, err
	}
	return s.shown(ctx, r, r.info(key)), nil
}

// shown adds to what is recorded the labels that the backend shows of itself.
func (s *snapshotter) shown(ctx context.Context, r snapshotRecord, info snapshot.Info) snapshot.Info {
	if t, ok := s.backend.(snapshot.Teller); !ok || !t.TellsLabels() {
		return info
	}
	backend, err := s.backend.Stat(ctx, r.Backend)
	if err != nil {
		return info // removed meanwhile, or whoever uses it will be told
	}
	labels := make(map[string]string)
	maps.Copy(labels, backendLabels(backend.Labels))
	maps.Copy(labels, info.Labels)
	info.Labels = labels
	return info
}

func (s *snapshotter) Update(ctx context.Context, info snapshot.Info, paths ...string) (out snapshot.Info, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	if info.Name == "" {
		return out, errdefs.ErrInvalidArgument
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		r, err := s.get(tx, ns, info.Name)
		if err != nil {
			return err
		}
		if r.Labels, err = mergeLabels("snapshot", info.Name, r.Labels, info.Labels, paths); err != nil {
			return err
		}
		r.Updated = s.db.now().UTC()
		out = r.info(info.Name)
		return s.put(tx, ns, info.Name, r)
	})
	return out, err
}

func (s *snapshotter) Usage(ctx context.Context, key string) (snapshot.Usage, error) {
	r, err := s.look(ctx, key)
	if err != nil {
		return snapshot.Usage{}, err
	}
	return s.backend.Usage(ctx, r.Backend)
}

func (s *snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	r, err := s.look(ctx, key)
	if err == nil && r.Kind == snapshot.KindCommitted {
		err = errdefs.FailedPrecondition("failed to get active mount: requested snapshot %s not active or view: failed precondition", r.Backend)
	}
	if err != nil {
		return nil, err
	}
	return s.backend.Mounts(ctx, r.Backend)
}

func (s *snapshotter) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshot.KindActive, key, parent, labels)
}

func (s *snapshotter) View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshot.KindView, key, parent, labels)
}

func (s *snapshotter) create(ctx context.Context, kind snapshot.Kind, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	ns, err := s.check(ctx, key, labels)
	if err != nil {
		return nil, err
	}
	if err := s.target(ctx, ns, labels[snapshot.LabelRef]); err != nil {
		return nil, err
	}
	var p snapshotRecord
	if parent != "" {
		if p, err = s.look(ctx, parent); err != nil {
			return nil, fmt.Errorf("parent %w", err)
		}
	}
	now := s.db.now().UTC()
	r := snapshotRecord{
		Backend: s.begin(ns, key), Kind: kind, Parent: parent,
		Labels: label.Clean(labels), Created: now, Updated: now,
	}
	defer s.end(r.Backend)

	build := s.backend.Prepare
	if kind == snapshot.KindView {
		build = s.backend.View
	}
	if err := s.free(ns, key); err != nil {
		return nil, err // before the backend has done its work
	}
	mounts, err := build(ctx, r.Backend, p.Backend, backendLabels(labels))
	if err != nil {
		return nil, err
	}
	failpoint.Hit("libctr/metadata.snapshot.made")
	err = s.db.update(ctx, func(tx *bbolt.Tx) error { return s.add(ctx, tx, ns, key, r, p.Backend) })
	if err != nil {
		s.undo(ctx, r.Backend)
		return nil, err
	}
	failpoint.Hit("libctr/metadata.snapshot.recorded")
	return mounts, nil
}

// free fails with AlreadyExists when the key is taken.
func (s *snapshotter) free(ns, key string) error {
	return s.db.view(func(tx *bbolt.Tx) error { return s.absent(tx, ns, key) })
}

func (s *snapshotter) absent(tx *bbolt.Tx, ns, key string) error {
	_, err := s.get(tx, ns, key)
	switch {
	case errdefs.IsNotFound(err):
		return nil
	case err == nil:
		return errdefs.AlreadyExists("snapshot %q: already exists", key)
	}
	return err
}

// add records a snapshot that the backend has made on the parent's backend key.
func (s *snapshotter) add(ctx context.Context, tx *bbolt.Tx, ns, key string, r snapshotRecord, parentBackend string) error {
	if err := s.makeBuckets(tx, ns); err != nil {
		return err
	}
	if err := s.absent(tx, ns, key); err != nil {
		return err
	}
	if r.Parent != "" {
		p, err := s.get(tx, ns, r.Parent)
		if err != nil || p.Backend != parentBackend {
			return errdefs.NotFound("parent snapshot %s does not exist: not found", r.Parent)
		}
	}
	if err := hold(ctx, tx, ns, typeSnapshots+s.name, key); err != nil {
		return err
	}
	return s.put(tx, ns, key, r)
}

// target fails with AlreadyExists when the snapshot that the caller wants to
// commit to is there; the lease of ctx then holds it.
func (s *snapshotter) target(ctx context.Context, ns, name string) error {
	if name == "" {
		return nil
	}
	exists, done := false, false
	err := s.db.view(func(tx *bbolt.Tx) error {
		_, err := s.get(tx, ns, name)
		if errdefs.IsNotFound(err) {
			return nil
		}
		exists, done = err == nil, held(ctx, tx, ns, typeSnapshots+s.name, name)
		return err
	})
	if err != nil || !exists {
		return err
	}
	if !done {
		err = s.db.update(ctx, func(tx *bbolt.Tx) error {
			if _, err := s.get(tx, ns, name); err != nil {
				return err
			}
			return hold(ctx, tx, ns, typeSnapshots+s.name, name)
		})
		if err != nil {
			return err
		}
	}
	return errdefs.AlreadyExists("target snapshot %q: already exists", name)
}

// spill tells the collector of a backend snapshot that may have no record.
func (s *snapshotter) spill() {
	s.dirty.Store(true)
	s.db.collector.deleted()
}

// used says whether the namespace has ever had a snapshot of this snapshotter.
func (s *snapshotter) used(ns string) (is bool) {
	_ = s.db.view(func(tx *bbolt.Tx) error { is = s.keys(tx, ns) != nil; return nil }) // fn returns none
	return is
}

func (s *snapshotter) Remove(ctx context.Context, key string) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		r, err := s.get(tx, ns, key)
		if err != nil {
			return err
		}
		prefix := childKey(key, "")
		if k, _ := s.children(tx, ns).Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
			return errdefs.FailedPrecondition("cannot remove snapshot with child: failed precondition")
		}
		if err := release(ctx, tx, ns, typeSnapshots+s.name, key); err != nil {
			return err
		}
		return s.drop(tx, ns, key, r)
	})
	failpoint.Hit("libctr/metadata.snapshot.forgotten")
	if err == nil {
		s.spill()
	}
	return err
}

func (s *snapshotter) Walk(ctx context.Context, fn func(snapshot.Info) error, filters ...string) error {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return err
	}
	var infos []snapshot.Info
	var records []snapshotRecord
	err = s.db.view(func(tx *bbolt.Tx) error {
		return each(s.keys(tx, ns), func(key string, v []byte) error {
			var r snapshotRecord
			if err := json.Unmarshal(v, &r); err != nil {
				s.db.passOver(ns, "snapshot", key, err)
				return nil
			}
			if i := r.info(key); match.Match(filter.Snapshot(i)) {
				infos, records = append(infos, i), append(records, r)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for i, r := range records {
		infos[i] = s.shown(ctx, r, infos[i])
	}
	return handOut(ctx, infos, fn)
}

// Close does nothing: the backend is its opener's to close.
func (s *snapshotter) Close() error { return nil }

// check validates what a new snapshot is called.
func (s *snapshotter) check(ctx context.Context, key string, labels map[string]string) (ns string, err error) {
	if ns, err = namespaceOf(ctx); err != nil {
		return "", err
	}
	if err := checkKey("snapshot key", key); err != nil {
		return "", err
	}
	if err := label.Validate(labels); err != nil {
		return "", fmt.Errorf("info.Labels: %w", err)
	}
	return ns, nil
}

// undo takes back what the backend made; what fails is left to the collector.
func (s *snapshotter) undo(ctx context.Context, backend string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.backend.Remove(ctx, backend); err != nil {
		s.db.log.WarnContext(ctx, "take back snapshot", "snapshotter", s.name, "key", backend, "err", err)
	}
	s.spill() // it may have kept its parent from being removed
}

func backendLabels(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(k, v string) bool { return v == "" || !strings.HasPrefix(k, inherited) })
	return out
}

// inheritLease gives ctx the lease of from if it has none of its own.
func inheritLease(ctx, from context.Context) context.Context {
	if lease.From(ctx) == "" {
		if id := lease.From(from); id != "" {
			return lease.With(ctx, id)
		}
	}
	return ctx
}
