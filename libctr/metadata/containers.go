package metadata

import (
	"context"
	"fmt"
	"maps"
	"strings"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/typeurl/v2"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/api/database"
	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/container"
	"gantry/libctr/core/wire"
	"gantry/libctr/filter"
	"gantry/libctr/label"
)

const bucketContainers = "containers"

type containerStore struct{ db *DB }

var _ container.Store = containerStore{}

func (s containerStore) Get(ctx context.Context, id string) (out container.Container, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	for _, file := range s.db.containerFiles() {
		err = file.View(func(tx *bbolt.Tx) error {
			out, err = getContainer(tx, ns, id)
			return err
		})
		if !errdefs.IsNotFound(err) {
			break
		}
	}
	return out, err
}

// containerFiles are the files that have records of containers.
func (db *DB) containerFiles() []*database.DB {
	if db.boot == nil {
		return []*database.DB{db.bolt}
	}
	return []*database.DB{db.boot, db.bolt}
}

// change runs a write transaction in the file that has the container's record. A fn
// that does not find it is NotFound.
func (s containerStore) change(ctx context.Context, fn func(tx *bbolt.Tx) error) (err error) {
	for _, file := range s.db.containerFiles() {
		if err = s.db.updateIn(ctx, file, fn); !errdefs.IsNotFound(err) {
			break
		}
	}
	return err
}

func getContainer(tx *bbolt.Tx, ns, id string) (container.Container, error) {
	var m containersapi.Container
	found, err := get(bucket(tx, ns, bucketContainers), id, &m)
	if err == nil && !found {
		err = errdefs.NotFound("container %q in namespace %q: not found", id, ns)
	}
	return wire.FromContainer(&m), err
}

func (s containerStore) List(ctx context.Context, filters ...string) ([]container.Container, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	var out []container.Container
	err = s.choose(ns, match, func(id []byte, e encoded) {
		var m containersapi.Container
		if err := proto.Unmarshal(e, &m); err != nil {
			s.db.passOver(ns, "container", string(id), err)
			return
		}
		out = append(out, wire.FromContainer(&m))
	})
	return out, err
}

// ListEncoded implements wire.EncodedLister: each is a containerd.services.containers.v1.Container.
func (s containerStore) ListEncoded(ctx context.Context, filters ...string) ([][]byte, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	out := s.db.copies(ns, bucketContainers, new(containersapi.Container))
	err = s.choose(ns, match, out.add)
	return out.all, err
}

// choose calls fn with each record that passes, of all files.
func (s containerStore) choose(ns string, match filter.Filter, fn func(id []byte, e encoded)) error {
	for _, file := range s.db.containerFiles() {
		err := file.View(func(tx *bbolt.Tx) error { return choose(tx, ns, bucketContainers, match, containerFields, fn) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s containerStore) Create(ctx context.Context, c container.Container) (container.Container, error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return c, err
	}
	if err := checkContainer(c); err != nil {
		return c, fmt.Errorf("create container failed validation: %w", err)
	}
	c.Labels = label.Clean(c.Labels)
	c.CreatedAt = s.db.now().UTC()
	c.UpdatedAt = c.CreatedAt
	file, other := s.db.bolt, s.db.boot
	if s.db.boot != nil && c.Labels[container.LabelOfBoot] == "true" {
		file, other = s.db.boot, s.db.bolt
	}
	if err := s.absent(other, ns, c.ID); err != nil {
		return c, err
	}
	if file == s.db.boot {
		if err := s.db.makeNamespace(ctx, ns); err != nil {
			return c, err
		}
	}
	err = s.db.updateIn(ctx, file, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, ns, bucketContainers)
		if err != nil {
			return err
		}
		if b.Get([]byte(c.ID)) != nil {
			return errContainerExists(c.ID)
		}
		return put(b, c.ID, wire.Container(c))
	})
	return c, err
}

func errContainerExists(id string) error {
	return errdefs.AlreadyExists("container %q: already exists", id)
}

// makeNamespace makes a namespace durable that has no record yet.
func (db *DB) makeNamespace(ctx context.Context, ns string) error {
	known := false
	err := db.view(func(tx *bbolt.Tx) error { known = bucket(tx, ns) != nil; return nil })
	if err != nil || known {
		return err
	}
	return db.update(ctx, func(tx *bbolt.Tx) error {
		_, err := makeBucket(tx, ns)
		return err
	})
}

// ofBoot says whether a namespace has containers that are of the boot.
func (s containerStore) ofBoot(ns string) (has bool, err error) {
	if s.db.boot == nil {
		return false, nil
	}
	err = s.db.boot.View(func(tx *bbolt.Tx) error {
		if b := bucket(tx, ns, bucketContainers); b != nil {
			k, _ := b.Cursor().First()
			has = k != nil
		}
		return nil
	})
	return has, err
}

// absent fails when the file has the container. Two creations at once, of one id in two
// files, are not kept apart: a client knows which of its containers are of the boot.
func (s containerStore) absent(file *database.DB, ns, id string) error {
	if file == nil {
		return nil
	}
	return file.View(func(tx *bbolt.Tx) error {
		if b := bucket(tx, ns, bucketContainers); b != nil && b.Get([]byte(id)) != nil {
			return errContainerExists(id)
		}
		return nil
	})
}

func (s containerStore) Update(ctx context.Context, c container.Container, paths ...string) (out container.Container, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	err = s.change(ctx, func(tx *bbolt.Tx) error {
		old, err := getContainer(tx, ns, c.ID)
		if errdefs.IsNotFound(err) {
			return missing(tx, "update", ns, c.ID)
		}
		if err != nil {
			return err
		}
		if out, err = mergeContainer(old, c, paths); err != nil {
			return err
		}
		out.UpdatedAt = s.db.now().UTC()
		return put(bucket(tx, ns, bucketContainers), c.ID, wire.Container(out))
	})
	return out, err
}

// mergeContainer takes what the field paths name from c; all that may change when
// there are none, and then what may not must be equal.
func mergeContainer(old, c container.Container, paths []string) (container.Container, error) {
	if len(paths) == 0 {
		paths = []string{"labels", "spec", "extensions", "image", "snapshotkey"}
		if old.Snapshotter != c.Snapshotter {
			return old, errdefs.InvalidArgument("container.Snapshotter field is immutable: invalid argument")
		}
		if old.Runtime.Name != c.Runtime.Name {
			return old, errdefs.InvalidArgument("container.Runtime.Name field is immutable: invalid argument")
		}
	}
	out := old
	for _, path := range paths {
		if err := mergeContainerField(&out, c, path); err != nil {
			return old, err
		}
	}
	if err := checkContainer(out); err != nil {
		return old, fmt.Errorf("update failed validation: %w", err)
	}
	return out, nil
}

func mergeContainerField(out *container.Container, c container.Container, path string) (err error) {
	switch {
	case path == "labels" || strings.HasPrefix(path, "labels."):
		if out.Labels, err = label.Update(out.Labels, c.Labels, path); err != nil {
			err = fmt.Errorf("update failed validation: containers.Labels: %w", err)
		}
	case path == "spec":
		out.Spec = c.Spec
	case path == "image":
		out.Image = c.Image
	case path == "snapshotkey":
		out.SnapshotKey = c.SnapshotKey
	case path == "extensions":
		out.Extensions = c.Extensions
	case strings.HasPrefix(path, "extensions."):
		key := strings.TrimPrefix(path, "extensions.")
		out.Extensions = maps.Clone(out.Extensions)
		if out.Extensions == nil {
			out.Extensions = make(map[string]typeurl.Any)
		}
		if v := c.Extensions[key]; v != nil {
			out.Extensions[key] = v
		} else {
			delete(out.Extensions, key)
		}
	default:
		err = errdefs.InvalidArgument("cannot update %q field on %q: invalid argument", path, c.ID)
	}
	return err
}

func checkContainer(c container.Container) error {
	if err := checkIdentifier("container.ID", c.ID); err != nil {
		return err
	}
	for name := range c.Extensions {
		if name == "" {
			return errdefs.InvalidArgument("container.Extension keys must not be zero-length: invalid argument")
		}
	}
	if err := label.Validate(c.Labels); err != nil {
		return fmt.Errorf("containers.Labels: %w", err)
	}
	if c.Runtime.Name == "" {
		return errdefs.InvalidArgument("container.Runtime.Name must be set: invalid argument")
	}
	if c.Spec == nil && c.SandboxID == "" {
		return errdefs.InvalidArgument("container.Spec must be set: invalid argument")
	}
	if c.SnapshotKey != "" && c.Snapshotter == "" {
		return errdefs.InvalidArgument("container.Snapshotter must be set if container.SnapshotKey is set: invalid argument")
	}
	return nil
}

// missing is the error for a container that is to be changed and not there.
func missing(tx *bbolt.Tx, what, ns, id string) error {
	if bucket(tx, ns, bucketContainers) == nil {
		return errdefs.NotFound("cannot %s container %q in namespace %q: not found", what, id, ns)
	}
	if what == "delete" {
		return errdefs.NotFound("container %s: not found", id)
	}
	return errdefs.NotFound("container %q: not found", id)
}

func (s containerStore) Delete(ctx context.Context, id string) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	err = s.change(ctx, func(tx *bbolt.Tx) error {
		_, err := getContainer(tx, ns, id)
		if errdefs.IsNotFound(err) {
			return missing(tx, "delete", ns, id)
		}
		if err != nil {
			return err
		}
		return bucket(tx, ns, bucketContainers).Delete([]byte(id))
	})
	failpoint.Hit("libctr/metadata.container.forgotten")
	if err == nil {
		s.db.collector.deleted()
	}
	return err
}
