package metadata

import (
	"context"
	"path/filepath"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/wire"
	"gantry/libctr/snapshot/overlay"
)

// TestOfBoot pins that a record of the boot is a record like any other until the next
// boot: it is found, listed and changed, keeps its snapshot and its namespace, and its
// id is taken; and that the next boot does not see it.
func TestOfBoot(t *testing.T) {
	root := t.TempDir()
	snaps, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer snaps.Close()
	open := func() *DB {
		t.Helper()
		db, err := Open(filepath.Join(root, "meta.db"), Options{
			Boot: filepath.Join(root, "boot.db"), Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps},
		})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	record := func(id string, labels map[string]string) container.Container {
		return wire.FromContainer(&containersapi.Container{
			ID: id, Runtime: &containersapi.Container_Runtime{Name: "r"}, Spec: &anypb.Any{}, Labels: labels,
			Snapshotter: "overlayfs", SnapshotKey: id,
		})
	}
	create := func(c container.Container) error { _, err := db.Containers().Create(ctx, c); return err }
	for _, c := range []container.Container{
		record("lasting", nil), record("passing", map[string]string{container.LabelOfBoot: "true"}),
	} {
		if _, err := db.Snapshotter("overlayfs").Prepare(ctx, c.ID, "", nil); err != nil {
			t.Fatal(err)
		}
		if err := create(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(record("passing", nil)); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a lasting one of the same id: %v", err)
	}
	if err := create(record("lasting", map[string]string{container.LabelOfBoot: "true"})); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a passing one of the same id: %v", err)
	}
	if all, err := db.Containers().List(ctx); err != nil || len(all) != 2 {
		t.Errorf("list %v, %v", all, err)
	}
	c, err := db.Containers().Update(ctx, container.Container{ID: "passing", Labels: map[string]string{"a": "b"}}, "labels.a")
	if err != nil || c.Labels["a"] != "b" {
		t.Errorf("update: %v, %v", c.Labels, err)
	}
	if stats, err := db.Collect(ctx); err != nil || stats.Removed != 0 {
		t.Errorf("collected %d, %v", stats.Removed, err)
	}
	alone := reqctx.WithNamespace(t.Context(), "alone")
	if _, err := db.Containers().Create(alone, record("passing", map[string]string{container.LabelOfBoot: "true"})); err != nil {
		t.Fatal(err)
	}
	if err := db.Namespaces().Delete(alone, "alone"); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of a namespace with a container: %v", err)
	}
	if err := db.Containers().Delete(alone, "passing"); err != nil {
		t.Error(err)
	}
	if err := db.Namespaces().Delete(alone, "alone"); err != nil {
		t.Error(err)
	}
	reopen := func() {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open()
	}
	reopen()
	has(t, ctx, db, "passing", true)
	err = db.boot.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("boot")).Put([]byte("id"), []byte("another")) })
	if err != nil {
		t.Fatal(err)
	}
	reopen()
	defer db.Close()
	has(t, ctx, db, "passing", false)
	has(t, ctx, db, "lasting", true)
	if stats, err := db.Collect(ctx); err != nil || stats.Removed != 1 {
		t.Errorf("collected %d, %v: want the passing one's snapshot", stats.Removed, err)
	}
}

func has(t *testing.T, ctx context.Context, db *DB, id string, want bool) {
	t.Helper()
	if _, err := db.Containers().Get(ctx, id); (err == nil) != want || err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("%s: %v", id, err)
	}
}
