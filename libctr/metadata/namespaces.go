package metadata

import (
	"cmp"
	"context"

	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/libctr/core/namespace"
	"gantry/libctr/label"
)

const bucketLabels = "labels"

type namespaceStore struct{ db *DB }

var _ namespace.Store = namespaceStore{}

func (s namespaceStore) Create(ctx context.Context, name string, labels map[string]string) error {
	if err := checkIdentifier("namespace", name); err != nil {
		return err
	}
	if err := label.Validate(labels); err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		if bucket(tx, name) != nil {
			return errdefs.AlreadyExists("namespace %q: already exists", name)
		}
		b, err := makeBucket(tx, name, bucketLabels)
		if err != nil {
			return err
		}
		for k, v := range label.Clean(labels) {
			if err := b.Put([]byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s namespaceStore) Labels(_ context.Context, name string) (map[string]string, error) {
	labels := make(map[string]string)
	err := s.db.view(func(tx *bbolt.Tx) error {
		if name == "" {
			return errdefs.NotFound("namespace %q: not found", name)
		}
		return each(bucket(tx, name, bucketLabels), func(k string, v []byte) error {
			labels[k] = string(v)
			return nil
		})
	})
	return labels, err
}

func (s namespaceStore) SetLabel(ctx context.Context, name, key, value string) error {
	if err := label.Validate(map[string]string{key: value}); err != nil {
		return err
	}
	if key == "" {
		return errdefs.InvalidArgument("a label's key must not be empty")
	}
	if err := checkIdentifier("namespace", name); err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, name, bucketLabels)
		if err != nil {
			return err
		}
		if value == "" {
			return b.Delete([]byte(key))
		}
		return b.Put([]byte(key), []byte(value))
	})
}

func (s namespaceStore) List(context.Context) ([]string, error) {
	var names []string
	err := s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(k []byte) error {
			names = append(names, string(k))
			return nil
		})
	})
	return names, err
}

func (s namespaceStore) Delete(ctx context.Context, name string) error {
	if name == "" {
		return errdefs.InvalidArgument("namespace must not be empty")
	}
	if ofBoot, err := containerStore(s).ofBoot(name); err != nil || ofBoot {
		return cmp.Or(err, errdefs.FailedPrecondition("namespace %q is not empty: it has %s", name, bucketContainers))
	}
	if mounts, err := s.db.ofMounts(name); err != nil || mounts {
		return cmp.Or(err, errdefs.FailedPrecondition("namespace %q is not empty: it has %s", name, bucketMounts))
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		b := bucket(tx, name)
		if b == nil {
			return errdefs.NotFound("namespace %q: not found", name)
		}
		if kind := holds(b); kind != "" {
			return errdefs.FailedPrecondition("namespace %q is not empty: it has %s", name, kind)
		}
		return tx.Bucket(bucketV1).DeleteBucket([]byte(name))
	})
}

// holds names a kind of record that the namespace has, "" for an empty one.
func holds(ns *bbolt.Bucket) string {
	for _, kind := range []string{bucketContainers, bucketSandboxes, bucketImages, bucketContent, bucketLeases} {
		if b := ns.Bucket([]byte(kind)); b != nil {
			if k, _ := b.Cursor().First(); k != nil {
				return kind
			}
		}
	}
	kind := ""
	if b := ns.Bucket([]byte(bucketSnapshots)); b != nil {
		b.ForEachBucket(func(name []byte) error { //nolint:errcheck // fn returns none
			keys := b.Bucket(name).Bucket([]byte(bucketKeys))
			if keys == nil {
				return nil
			}
			if k, _ := keys.Cursor().First(); k != nil {
				kind = bucketSnapshots
			}
			return nil
		})
	}
	return kind
}
