package metadata

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	containerdevents "github.com/containerd/containerd/api/events"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/reqctx"
	"gantry/libctr/core/content"
)

// Stats tells what one collection did.
type Stats struct {
	Removed int           // records
	Elapsed time.Duration // all of it
	Locked  time.Duration // while other writers waited
}

// freed tells the collector that something was let go; with sync it has run when
// freed returns.
func (db *DB) freed(ctx context.Context, sync bool) error {
	if !sync {
		db.collector.deleted()
		return nil
	}
	_, err := db.Collect(ctx)
	return err
}

// Collect drops the records that nothing holds, then what the backends hold
// without a record. Collections queue; a caller's own deletions are covered.
func (db *DB) Collect(ctx context.Context) (stats Stats, err error) {
	select {
	case db.collector.turn <- struct{}{}:
		defer func() { <-db.collector.turn }()
	case <-ctx.Done():
		return stats, ctx.Err()
	}
	start := time.Now()
	db.collector.begin()
	var expiry time.Time
	defer func() {
		if !expiry.IsZero() { // from the records' clock to the scheduler's, and past the instant
			expiry = time.Now().Add(expiry.Sub(db.now()) + time.Millisecond)
		}
		db.collector.end(time.Since(start), err, expiry)
	}()
	dead, expiry, err := db.dead()
	if err != nil {
		return stats, fmt.Errorf("mark: %w", err)
	}
	if len(dead) > 0 {
		locked := time.Now()
		if dead, err = db.bury(ctx); err != nil {
			return stats, fmt.Errorf("sweep records: %w", err)
		}
		stats.Locked = time.Since(locked)
	}
	failpoint.Hit("libctr/metadata.collect.forgotten")
	stats.Removed = len(dead)
	db.soil(dead)
	db.announce(ctx, dead)
	if err := db.collected.call(ctx); err != nil {
		return stats, err
	}
	if err := db.sweepBackends(ctx); err != nil {
		return stats, err
	}
	failpoint.Hit("libctr/metadata.collect.swept")
	stats.Elapsed = time.Since(start)
	return stats, nil
}

// soil marks the backends whose records have gone.
func (db *DB) soil(dead []node) {
	for _, n := range dead {
		switch n.kind {
		case kindContent:
			db.content.dirty.Store(true)
		case kindSnapshot:
			if s := db.snapshotters[n.snapshotter]; s != nil {
				s.dirty.Store(true)
			}
		}
	}
}

// dead lists the records that nothing holds, and when the first of those that stay
// expires.
func (db *DB) dead() (dead []node, expiry time.Time, err error) {
	err = db.view(func(tx *bbolt.Tx) error {
		g, err := db.load(tx)
		if err == nil {
			dead, expiry = g.dead(), g.expires
		}
		return err
	})
	return dead, expiry, err
}

// load reads the graph, in a transaction of the durable file.
func (db *DB) load(tx *bbolt.Tx) (g *graph, err error) {
	if db.boot == nil {
		return loadGraph(tx, nil, db.now())
	}
	err = db.boot.View(func(boot *bbolt.Tx) error {
		g, err = loadGraph(tx, boot, db.now())
		return err
	})
	return g, err
}

// bury marks again and drops, in one write transaction, so that nothing can take
// hold of a record in between.
func (db *DB) bury(ctx context.Context) (dead []node, err error) {
	err = db.update(ctx, func(tx *bbolt.Tx) error {
		g, err := db.load(tx)
		if err != nil {
			return err
		}
		dead = g.dead()
		for _, n := range dead {
			if err := db.drop(tx, n); err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
		}
		return nil
	})
	return dead, err
}

// drop deletes one record.
func (db *DB) drop(tx *bbolt.Tx, n node) error {
	switch n.kind {
	case kindContent:
		return bucket(tx, n.namespace, bucketContent).Delete([]byte(n.key))
	case kindImage:
		return bucket(tx, n.namespace, bucketImages).Delete([]byte(n.key))
	case kindLease:
		return bucket(tx, n.namespace, bucketLeases).DeleteBucket([]byte(n.key))
	case kindSnapshot:
		s := &snapshotter{db: db, name: n.snapshotter} // also of a backend that is not configured now
		r, err := s.get(tx, n.namespace, n.key)
		if err != nil {
			return err
		}
		return s.drop(tx, n.namespace, n.key, r)
	}
	return nil
}

// announce publishes the removal of snapshots and images.
func (db *DB) announce(ctx context.Context, dead []node) {
	if db.events == nil {
		return
	}
	for _, n := range dead {
		ctx := reqctx.WithNamespace(ctx, n.namespace)
		var err error
		switch n.kind {
		case kindSnapshot:
			err = db.events.Publish(ctx, "/snapshot/remove", &containerdevents.SnapshotRemove{Key: n.key, Snapshotter: n.snapshotter})
		case kindImage:
			err = db.events.Publish(ctx, "/images/delete", &containerdevents.ImageDelete{Name: n.key})
		}
		if err != nil {
			db.log.WarnContext(ctx, "publish removal", "node", n.String(), "err", err)
		}
	}
}

// sweepBackends removes what is in a backend without a record.
func (db *DB) sweepBackends(ctx context.Context) error {
	for _, s := range db.snapshotters {
		if err := swept(&s.dirty, func() error { return s.sweep(ctx) }); err != nil {
			return err
		}
	}
	if db.content.backend == nil {
		return nil
	}
	if err := swept(&db.content.dirty, func() error { return db.content.sweepBlobs(ctx) }); err != nil {
		return fmt.Errorf("sweep content: %w", err)
	}
	if err := db.content.sweepIngests(ctx); err != nil {
		return fmt.Errorf("sweep ingests: %w", err)
	}
	return nil
}

// swept runs sweep if there may be something to sweep, and again next time if it fails.
func swept(dirty *atomic.Bool, sweep func() error) error {
	if !dirty.Swap(false) {
		return nil
	}
	err := sweep()
	if err != nil {
		dirty.Store(true)
	}
	return err
}

func (s *contentStore) sweepBlobs(ctx context.Context) error {
	recorded := make(map[digest.Digest]bool)
	err := s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			return each(bucket(tx, string(ns), bucketContent), func(d string, _ []byte) error {
				recorded[digest.Digest(d)] = true
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	return s.backend.Walk(ctx, func(i content.Info) error {
		if recorded[i.Digest] {
			return nil
		}
		return s.sweepBlob(ctx, i.Digest)
	})
}

// sweepBlob removes a blob that has no record, in the digest's lane, where none
// can come meanwhile.
func (s *contentStore) sweepBlob(ctx context.Context, d digest.Digest) error {
	leave, err := s.db.lanes.enter(ctx, d.String())
	if err != nil {
		return err
	}
	defer leave()
	recorded := false
	err = s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			if b := bucket(tx, string(ns), bucketContent); b != nil && b.Get([]byte(d)) != nil {
				recorded = true
			}
			return nil
		})
	})
	if err != nil || recorded || s.sharing(d) {
		return err
	}
	if err := s.backend.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	failpoint.Hit("libctr/metadata.collect.blob")
	return nil
}
