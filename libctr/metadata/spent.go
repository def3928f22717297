package metadata

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/bbolt"

	"gantry/libctr/core/snapshot"
)

// committedAs is what an active snapshot's backend key becomes: the random part stays, so
// that the two can be told to be one.
func committedAs(backend, name string) string { return birth(backend) + "/" + name }

// birth is <ns>/<random>.
func birth(backend string) string {
	ns, rest, _ := strings.Cut(backend, "/")
	random, _, _ := strings.Cut(rest, "/")
	return ns + "/" + random
}

// dropSpent forgets active snapshots that a commit has taken from the backend without
// coming to its record: what it became is among the dead.
func (s *snapshotter) dropSpent(ctx context.Context, listed []snapshot.Info, dead []string) error {
	there, became := make(map[string]bool, len(listed)), make(map[string]bool, len(dead))
	for _, i := range listed {
		there[i.Name] = true
	}
	for _, key := range dead {
		became[birth(key)] = true
	}
	spent := func(r snapshotRecord) bool {
		return r.Kind == snapshot.KindActive && !there[r.Backend] && became[birth(r.Backend)]
	}
	some := false
	err := s.db.view(func(tx *bbolt.Tx) error {
		return s.eachRecord(tx, func(_, _ string, r snapshotRecord) error {
			some = some || spent(r)
			return nil
		})
	})
	if err != nil || !some {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		type found struct {
			ns, key string
			record  snapshotRecord
		}
		var all []found
		err := s.eachRecord(tx, func(ns, key string, r snapshotRecord) error {
			if spent(r) {
				all = append(all, found{ns, key, r})
			}
			return nil
		})
		for _, f := range all {
			s.db.log.Warn("snapshot was lost in its commit", "snapshotter", s.name, "namespace", f.ns, "key", f.key)
			err = errors.Join(err, s.drop(tx, f.ns, f.key, f.record))
		}
		return err
	})
}
