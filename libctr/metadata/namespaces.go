package metadata

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"gantry/api/errdefs"
	"gantry/libctr/core/namespace"
	"gantry/libctr/identifier"
	"gantry/libctr/label"
)

const bucketLabels = "labels"

type namespaceStore struct{ db *DB }

var _ namespace.Store = namespaceStore{}

func (s namespaceStore) Create(ctx context.Context, name string, labels map[string]string) error {
	if err := checkNamespaceLabels(name, labels); err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		if bucket(tx, name) != nil {
			return errdefs.AlreadyExists("namespace %q: already exists", name)
		}
		return putLabels(tx, name, labels)
	})
}

func (s namespaceStore) Labels(_ context.Context, name string) (map[string]string, error) {
	labels := make(map[string]string)
	err := s.db.view(func(tx *bbolt.Tx) error {
		if name == "" || bucket(tx, name) == nil {
			return nil
		}
		return each(bucket(tx, name, bucketLabels), func(k string, v []byte) error {
			labels[k] = string(v)
			return nil
		})
	})
	return labels, err
}

func (s namespaceStore) SetLabel(ctx context.Context, name, key, value string) error {
	if err := checkNamespaceLabels(name, map[string]string{key: value}); err != nil {
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

// SetLabels replaces the labels, all at once.
func (s namespaceStore) SetLabels(ctx context.Context, name string, labels map[string]string) error {
	if err := checkNamespaceLabels(name, labels); err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, name)
		if err != nil {
			return err
		}
		if err := b.DeleteBucket([]byte(bucketLabels)); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
		return putLabels(tx, name, labels)
	})
}

func checkNamespaceLabels(name string, labels map[string]string) error {
	if err := identifier.Validate(name); err != nil {
		return err
	}
	if _, empty := labels[""]; empty {
		return errdefs.InvalidArgument("namespace.Labels: key must not be empty: invalid argument")
	}
	if err := label.Validate(labels); err != nil {
		return fmt.Errorf("namespace.Labels: %w", err)
	}
	return nil
}

func putLabels(tx *bbolt.Tx, name string, labels map[string]string) error {
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
}

func (s namespaceStore) Delete(ctx context.Context, name string) error {
	ofBoot, err := containerStore(s).ofBoot(name)
	if err != nil {
		return err
	}
	mounts, err := s.db.ofMounts(name)
	if err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		b := bucket(tx, name)
		if name == "" || b == nil {
			return errdefs.NotFound("namespace %q: not found", name)
		}
		kinds := holds(b, ofBoot)
		if mounts {
			kinds = append(kinds, bucketMounts)
		}
		if len(kinds) > 0 {
			return errdefs.FailedPrecondition("namespace %q must be empty, but it still has %s: failed precondition", name, strings.Join(kinds, ", "))
		}
		return tx.Bucket(bucketV1).DeleteBucket([]byte(name))
	})
}

// holds names the kinds of records that keep a namespace from being deleted; leases and
// labels go with it. containerd lets sandboxes go too. ofBoot says that it has containers in the other file.
func holds(ns *bbolt.Bucket, ofBoot bool) (kinds []string) {
	for _, of := range []struct{ bucket, name string }{
		{bucketImages, "images"}, {bucketContent, "blobs"}, {bucketContainers, "containers"}, {bucketSandboxes, "sandboxes"},
	} {
		if hasKeys(ns.Bucket([]byte(of.bucket))) || ofBoot && of.bucket == bucketContainers {
			kinds = append(kinds, of.name)
		}
	}
	if b := ns.Bucket([]byte(bucketSnapshots)); b != nil {
		_ = b.ForEachBucket(func(name []byte) error { // fn returns none
			if hasKeys(b.Bucket(name).Bucket([]byte(bucketKeys))) {
				kinds = append(kinds, fmt.Sprintf("snapshots on %q snapshotter", name))
			}
			return nil
		})
	}
	return kinds
}

func hasKeys(b *bbolt.Bucket) bool {
	if b == nil {
		return false
	}
	k, _ := b.Cursor().First()
	return k != nil
}
