package metadata

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/snapshot"
)

// Cleanup removes from the backend what no namespace has a record of.
func (s *snapshotter) Cleanup(ctx context.Context) error { return s.sweep(ctx) }

// sweep removes backend snapshots without a record, children first. The order of
// the three looks counts: a key that was listed is either still pending at the
// second look or has its record at the third.
func (s *snapshotter) sweep(ctx context.Context) error {
	var listed []snapshot.Info
	err := s.backend.Walk(ctx, func(i snapshot.Info) error {
		listed = append(listed, i)
		return nil
	})
	if err != nil {
		return fmt.Errorf("sweep snapshots of %s: %w", s.name, err)
	}
	s.mu.Lock()
	keep := maps.Clone(s.pending)
	s.mu.Unlock()
	if err := s.db.view(func(tx *bbolt.Tx) error { return s.recorded(tx, keep) }); err != nil {
		return fmt.Errorf("sweep snapshots of %s: %w", s.name, err)
	}
	dead := unrecorded(listed, keep)
	if err := s.dropSpent(ctx, listed, dead); err != nil {
		return fmt.Errorf("sweep snapshots of %s: %w", s.name, err)
	}
	for _, key := range dead {
		err := s.backend.Remove(ctx, key)
		failpoint.Hit("libctr/metadata.collect.snapshot")
		if errdefs.IsFailedPrecondition(err) { // a child is being made that will find no parent
			s.dirty.Store(true)
			continue
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("sweep snapshot %q of %s: %w", key, s.name, err)
		}
	}
	return s.backend.Cleanup(ctx)
}

// eachRecord calls fn with the records of all namespaces.
func (s *snapshotter) eachRecord(tx *bbolt.Tx, fn func(ns, key string, r snapshotRecord) error) error {
	return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
		return each(s.keys(tx, string(ns)), func(key string, v []byte) error {
			var r snapshotRecord
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("decode snapshot %q: %w", key, err)
			}
			return fn(string(ns), key, r)
		})
	})
}

// recorded adds the backend keys of all namespaces to keys.
func (s *snapshotter) recorded(tx *bbolt.Tx, keys map[string]bool) error {
	return s.eachRecord(tx, func(_, _ string, r snapshotRecord) error {
		keys[r.Backend] = true
		return nil
	})
}

// unrecorded lists what is not to be kept, each after all its children.
func unrecorded(listed []snapshot.Info, keep map[string]bool) []string {
	parent := make(map[string]string, len(listed))
	for _, i := range listed {
		parent[i.Name] = i.Parent
	}
	depth := func(key string) (n int) {
		for key != "" && n <= len(parent) {
			key = parent[key]
			n++
		}
		return n
	}
	var out []string
	depths := make(map[string]int)
	for key := range parent {
		if !keep[key] {
			out = append(out, key)
			depths[key] = depth(key)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if d := depths[b] - depths[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return out
}

// begin gives a backend key that sweep leaves alone until end.
func (s *snapshotter) begin(ns, key string) string {
	return s.protect(ns + "/" + strings.ToLower(rand.Text()[:16]) + "/" + key)
}

// protect is begin for a key of the caller's.
func (s *snapshotter) protect(backend string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[backend] = true
	return backend
}

func (s *snapshotter) end(backend string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, backend)
}
