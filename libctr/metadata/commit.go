package metadata

import (
	"cmp"
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/label"
)

func (s *snapshotter) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	return s.CommitOnto(ctx, name, key, "", labels)
}

// CommitOnto implements snapshot.Rebaser; NotImplemented where the backend is none.
func (s *snapshotter) CommitOnto(ctx context.Context, name, key, parent string, labels map[string]string) error {
	ns, err := s.check(ctx, name, labels)
	if err != nil {
		return err
	}
	// One commit to a name at a time: the second must fail before its snapshot is spent.
	leave, err := s.db.lanes.enter(ctx, s.name+"\x00"+ns+"\x00"+name)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.free(ns, name); err != nil {
		return err
	}
	old, err := s.spendable(ctx, ns, key)
	if err != nil {
		return err
	}
	below, err := s.below(ctx, key, old, parent)
	if err != nil {
		return err
	}
	now := s.db.now().UTC()
	r := snapshotRecord{
		Backend: s.protect(committedAs(old.Backend, name)), Kind: snapshot.KindCommitted, Parent: cmp.Or(old.Parent, parent),
		Labels: label.Clean(labels), Created: now, Updated: now,
	}
	defer s.end(r.Backend)
	if err := s.commitBackend(ctx, r, old, below, backendLabels(labels)); err != nil {
		return err
	}
	failpoint.Hit("libctr/metadata.snapshot.committed")
	ctx = context.WithoutCancel(ctx) // half done: the record must follow
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		if err := s.spend(ctx, tx, ns, key, old); err != nil {
			return err
		}
		if p, err := s.get(tx, ns, r.Parent); below != "" && (err != nil || p.Backend != below) {
			return errdefs.NotFound("parent snapshot %q: removed meanwhile", r.Parent)
		}
		if err := s.absent(tx, ns, name); err != nil {
			return err
		}
		// A lease that has gone since then may as well have gone after this.
		if err := hold(ctx, tx, ns, typeSnapshots+s.name, name); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return s.put(tx, ns, name, r)
	})
	if err != nil {
		s.spill()
	}
	return err
}

// spendable is the record of a snapshot that can be committed under the lease of ctx: what
// can refuse that is to do so before the backend has spent it.
func (s *snapshotter) spendable(ctx context.Context, ns, key string) (snapshotRecord, error) {
	r, err := s.look(ctx, key)
	if errdefs.IsNotFound(err) && !s.used(ns) {
		err = errdefs.NotFound("can not find snapshotter %q: not found", s.name)
	}
	if err != nil {
		return r, err
	}
	if r.Kind != snapshot.KindActive {
		return r, errdefs.FailedPrecondition("failed to commit snapshot %[1]s: snapshot %[1]q is not active: failed precondition", r.Backend)
	}
	return r, s.db.leased(ctx, ns)
}

// spend forgets an active snapshot that the backend has committed, if it is still that one.
func (s *snapshotter) spend(ctx context.Context, tx *bbolt.Tx, ns, key string, old snapshotRecord) error {
	cur, err := s.get(tx, ns, key)
	if err != nil {
		return err
	}
	if cur.Backend != old.Backend {
		return errdefs.NotFound("snapshot %q: replaced meanwhile", key)
	}
	if err := s.drop(tx, ns, key, cur); err != nil {
		return err
	}
	return release(ctx, tx, ns, typeSnapshots+s.name, key)
}

// below is the backend key of the parent that an active snapshot gets by its commit, ""
// when it keeps what it has.
func (s *snapshotter) below(ctx context.Context, key string, old snapshotRecord, parent string) (string, error) {
	if parent == "" || parent == old.Parent {
		return "", nil
	}
	if old.Parent != "" {
		return "", errdefs.InvalidArgument("cannot change parent of active snapshot %q on commit", key)
	}
	p, err := s.look(ctx, parent)
	if err != nil {
		return "", fmt.Errorf("parent of snapshot %q: %w", key, err)
	}
	if p.Kind != snapshot.KindCommitted {
		return "", errdefs.FailedPrecondition("parent snapshot %q is not committed", parent)
	}
	return p.Backend, nil
}

func (s *snapshotter) commitBackend(ctx context.Context, r, old snapshotRecord, below string, labels map[string]string) error {
	if below == "" {
		return s.backend.Commit(ctx, r.Backend, old.Backend, labels)
	}
	rebaser, ok := s.backend.(snapshot.Rebaser)
	if !ok {
		return errdefs.NotImplemented("snapshotter %s can't put a snapshot onto a parent when it is committed", s.name)
	}
	return rebaser.CommitOnto(ctx, r.Backend, old.Backend, below, labels)
}
