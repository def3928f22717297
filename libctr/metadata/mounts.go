package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/api/errdefs"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/mount"
	"gantry/libctr/label"
)

const bucketMounts = "mounts"

// Mounts are the records of activations of mounts. They are of the boot, as the mounts are,
// and kept with its records. Safe for concurrent use.
type Mounts struct{ db *DB }

// Mounts are those on this file.
func (db *DB) Mounts() *Mounts { return &Mounts{db} }

// mountRecord is the value of v1/<ns>/mounts/<name>.
type mountRecord struct {
	ID        uint64            `json:"id"`              // unique in the boot
	Done      bool              `json:"done,omitempty"`  // all mounts stand
	Lease     string            `json:"lease,omitempty"` // that holds it
	Labels    map[string]string `json:"labels,omitempty"`
	Active    []activeMount     `json:"active,omitempty"`
	System    []mount.Mount     `json:"system,omitempty"`
	CreatedAt time.Time         `json:"createdAt"`
	UpdatedAt time.Time         `json:"updatedAt"`
}

type activeMount struct {
	mount.Mount
	MountedAt  time.Time         `json:"mountedAt"`
	MountPoint string            `json:"mountPoint"`
	Data       map[string]string `json:"data,omitempty"`
}

func (r mountRecord) activation(name string) activation.Activation {
	a := activation.Activation{Name: name, System: r.System, Labels: r.Labels}
	for _, m := range r.Active {
		a.Active = append(a.Active, activation.Mount(m))
	}
	return a
}

func (s *Mounts) file() *database.DB {
	if s.db.boot != nil {
		return s.db.boot
	}
	return s.db.bolt
}

func getMount(tx *bbolt.Tx, ns, name string) (r mountRecord, err error) {
	var v []byte
	if b := bucket(tx, ns, bucketMounts); b != nil && name != "" {
		v = b.Get([]byte(name))
	}
	if v == nil {
		return r, errdefs.NotFound("mount %q: not found", name)
	}
	if err := json.Unmarshal(v, &r); err != nil {
		return r, fmt.Errorf("decode record %q: %w", name, err)
	}
	return r, nil
}

func putMount(tx *bbolt.Tx, ns, name string, r mountRecord) error {
	b, err := makeBucket(tx, ns, bucketMounts)
	if err != nil {
		return err
	}
	v, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode record %q: %w", name, err)
	}
	return b.Put([]byte(name), v)
}

// Begin records, before anything is mounted, an activation under the lease of ctx, and
// gives it an id. One of the name that was begun and not finished is replaced.
func (s *Mounts) Begin(ctx context.Context, name string, labels map[string]string) (id uint64, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return 0, err
	}
	if err := checkKey("mount name", name); err != nil {
		return 0, err
	}
	labels = label.Clean(labels)
	if err := errors.Join(label.Validate(labels), s.db.leased(ctx, ns)); err != nil {
		return 0, err
	}
	if err := s.db.makeNamespace(ctx, ns); err != nil {
		return 0, err
	}
	err = s.db.updateIn(ctx, s.file(), func(tx *bbolt.Tx) error {
		if old, err := getMount(tx, ns, name); err == nil && old.Done {
			return errdefs.AlreadyExists("mount %q: already exists", name)
		}
		if id, err = tx.Bucket(bucketV1).NextSequence(); err != nil {
			return err
		}
		now := s.db.now().UTC()
		return putMount(tx, ns, name, mountRecord{ID: id, Lease: lease.From(ctx), Labels: labels, CreatedAt: now, UpdatedAt: now})
	})
	return id, err
}

// Finish records what stands; NotFound when the activation has been taken back meanwhile.
func (s *Mounts) Finish(ctx context.Context, id uint64, a activation.Activation) (activation.Activation, error) {
	var out activation.Activation
	return out, s.change(ctx, a.Name, func(r *mountRecord) error {
		if r.ID != id {
			return errdefs.NotFound("mount %q: not found", a.Name)
		}
		r.Done, r.System = true, a.System
		for _, m := range a.Active {
			r.Active = append(r.Active, activeMount(m))
		}
		out = r.activation(a.Name)
		return nil
	})
}

// change edits one record.
func (s *Mounts) change(ctx context.Context, name string, fn func(*mountRecord) error) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	return s.db.updateIn(ctx, s.file(), func(tx *bbolt.Tx) error {
		r, err := getMount(tx, ns, name)
		if err != nil {
			return err
		}
		if err := fn(&r); err != nil {
			return err
		}
		r.UpdatedAt = s.db.now().UTC()
		return putMount(tx, ns, name, r)
	})
}

// Get returns an activation that stands.
func (s *Mounts) Get(ctx context.Context, name string) (a activation.Activation, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return a, err
	}
	err = s.file().View(func(tx *bbolt.Tx) error {
		r, err := getMount(tx, ns, name)
		a = r.activation(name)
		return err
	})
	return a, err
}

// List returns those of the namespace.
func (s *Mounts) List(ctx context.Context, filters ...string) (out []activation.Activation, err error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	err = s.file().View(func(tx *bbolt.Tx) error {
		return s.each(tx, ns, func(name string, r mountRecord) {
			if a := r.activation(name); match.Match(fieldsOf("name", a.Name, a.Labels)) {
				out = append(out, a)
			}
		})
	})
	return out, err
}

// each passes over what cannot be read.
func (s *Mounts) each(tx *bbolt.Tx, ns string, fn func(name string, r mountRecord)) error {
	return each(bucket(tx, ns, bucketMounts), func(name string, v []byte) error {
		var r mountRecord
		if err := json.Unmarshal(v, &r); err != nil {
			s.db.passOver(ns, "mount", name, err)
			return nil
		}
		fn(name, r)
		return nil
	})
}

// Update replaces labels.
func (s *Mounts) Update(ctx context.Context, a activation.Activation, fieldpaths ...string) (out activation.Activation, err error) {
	err = s.change(ctx, a.Name, func(r *mountRecord) error {
		if r.Labels, err = label.Update(r.Labels, a.Labels, fieldpaths...); err != nil {
			return err
		}
		out = r.activation(a.Name)
		return nil
	})
	return out, err
}

// Remove forgets an activation, before it is unmounted, and returns its id.
func (s *Mounts) Remove(ctx context.Context, name string) (id uint64, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return 0, err
	}
	err = s.db.updateIn(ctx, s.file(), func(tx *bbolt.Tx) error {
		r, err := getMount(tx, ns, name)
		if err != nil {
			return err
		}
		id = r.ID
		return bucket(tx, ns, bucketMounts).Delete([]byte(name))
	})
	return id, err
}

// Sweep forgets the activations that nothing holds, and those that were begun and are not
// busy, and returns the ids of those that stay.
func (s *Mounts) Sweep(ctx context.Context, busy func(ns, name string) bool) (map[uint64]bool, error) {
	stay := make(map[uint64]bool)
	type key struct{ ns, name string }
	var dead []key
	look := func(durable, tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			l := loader{tx: durable, boot: tx, ns: string(ns), now: s.db.now(), graph: new(graph)}
			return s.each(tx, string(ns), func(name string, r mountRecord) {
				if busy(string(ns), name) || r.Done && l.holds(r) {
					stay[r.ID] = true
				} else {
					dead = append(dead, key{string(ns), name})
				}
			})
		})
	}
	err := s.db.view(func(durable *bbolt.Tx) error {
		if s.db.boot == nil {
			return look(durable, durable)
		}
		return s.db.boot.View(func(tx *bbolt.Tx) error { return look(durable, tx) })
	})
	if err != nil || len(dead) == 0 {
		return stay, err
	}
	return stay, s.file().Update(func(tx *bbolt.Tx) error { // not by updateIn: the collector runs now
		for _, k := range dead {
			if r, err := getMount(tx, k.ns, k.name); err == nil && busy(k.ns, k.name) {
				stay[r.ID] = true // begun meanwhile
				continue
			}
			if err := bucket(tx, k.ns, bucketMounts).Delete([]byte(k.name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// holds says whether a lease or a record that the labels name keeps an activation. Since
// it is asked after a collection, what is there is held itself.
func (l loader) holds(r mountRecord) bool {
	if r.Lease != "" {
		if b := bucket(l.tx, l.ns, bucketLeases, r.Lease); b != nil {
			return true
		}
	}
	for k, v := range r.Labels {
		if name, ok := strings.CutPrefix(k, labelBack); ok {
			if of, ok := l.reference(name, v); ok && l.has(of) {
				return true
			}
		}
	}
	return false
}

// has says whether there is a record of the node.
func (l loader) has(n node) bool {
	if n.key == "" {
		return false
	}
	switch n.kind {
	case kindContainer:
		return hasKey(l.tx, n.key, l.ns, bucketContainers) || hasKey(l.boot, n.key, l.ns, bucketContainers)
	case kindContent:
		return hasKey(l.tx, n.key, l.ns, bucketContent)
	case kindImage:
		return hasKey(l.tx, n.key, l.ns, bucketImages)
	case kindSnapshot:
		return n.snapshotter != "" && hasKey(l.tx, n.key, l.ns, bucketSnapshots, n.snapshotter, bucketKeys)
	}
	return false
}

func hasKey(tx *bbolt.Tx, key, ns string, path ...string) bool {
	b := bucket(tx, ns, path...)
	return b != nil && b.Get([]byte(key)) != nil
}

// ofMounts says whether a namespace has activations.
func (db *DB) ofMounts(ns string) (has bool, err error) {
	err = db.Mounts().file().View(func(tx *bbolt.Tx) error {
		if b := bucket(tx, ns, bucketMounts); b != nil {
			k, _ := b.Cursor().First()
			has = k != nil
		}
		return nil
	})
	return has, err
}

// OnCollect has fn called by each collection, when records have been forgotten and before
// what they were of is removed.
func (db *DB) OnCollect(fn func(context.Context) error) {
	db.collected.mu.Lock()
	defer db.collected.mu.Unlock()
	db.collected.fns = append(db.collected.fns, fn)
}

// hooks are called in order. The zero value is ready.
type hooks struct {
	mu  sync.Mutex
	fns []func(context.Context) error // guarded by mu; appended to only
}

func (h *hooks) call(ctx context.Context) error {
	h.mu.Lock()
	fns := h.fns
	h.mu.Unlock()
	for _, fn := range fns {
		if err := fn(ctx); err != nil {
			return err
		}
	}
	return nil
}
