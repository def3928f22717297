package metadata

import (
	"context"
	"path/filepath"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/reqctx"
	"gantry/libctr/content"
	"gantry/libctr/core/container"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/wire"
	"gantry/libctr/snapshot/overlay"
)

// TestWriteTransactions holds the package comment to its word: each write
// transaction is two fdatasyncs.
func TestWriteTransactions(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := content.New(filepath.Join(root, "content"))
	must(err)
	snaps, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{NoSync: true})
	must(err)
	defer snaps.Close()
	db, err := Open(filepath.Join(root, "meta.db"), Options{
		Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps},
	})
	must(err)
	defer db.Close()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	sn := db.Snapshotter("overlayfs")
	record := wire.FromContainer(&containersapi.Container{
		ID: "c", Runtime: &containersapi.Container_Runtime{Name: "r"}, Spec: &anypb.Any{},
	})
	var w corecontent.Writer
	var desc ocispec.Descriptor
	for _, step := range []struct {
		name string
		want int
		do   func() error
	}{
		{"container create", 1, func() error { _, err := db.Containers().Create(ctx, record); return err }},
		{"container update", 1, func() error {
			_, err := db.Containers().Update(ctx, container.Container{ID: "c"}, "labels.x")
			return err
		}},
		{"container get", 0, func() error { _, err := db.Containers().Get(ctx, "c"); return err }},
		{"container delete", 1, func() error { return db.Containers().Delete(ctx, "c") }},
		{"snapshot prepare", 1, func() error { _, err := sn.Prepare(ctx, "a", "", nil); return err }},
		{"snapshot mounts", 0, func() error { _, err := sn.Mounts(ctx, "a"); return err }},
		{"snapshot commit", 1, func() error { return sn.Commit(ctx, "n", "a", nil) }},
		{"snapshot view", 1, func() error { _, err := sn.View(ctx, "v", "n", nil); return err }},
		{"snapshot remove", 1, func() error { return sn.Remove(ctx, "v") }},
		{"lease create", 1, func() error { _, err := db.Leases().Create(ctx, "l", nil); return err }},
		{"content writer", 0, func() (err error) {
			w, err = db.Content().Writer(lease.With(ctx, "l"), corecontent.WriterOptions{Ref: "r"})
			return err
		}},
		{"content commit", 1, func() error {
			desc.Digest = w.Digest()
			return w.Commit(context.WithoutCancel(ctx), 0, "", nil)
		}},
		{"content writer of a held blob", 0, func() error {
			_, err := db.Content().Writer(lease.With(ctx, "l"), corecontent.WriterOptions{Ref: "r", Desc: desc})
			return expectError(err)
		}},
		{"collection that removes n", 1, func() error { _, err := db.Collect(ctx); return err }},
		{"collection of nothing", 0, func() error { _, err := db.Collect(ctx); return err }},
		{"lease delete, synchronous", 2, func() error { return db.Leases().Delete(ctx, "l", true) }},
	} {
		before := db.lastWrite(t)
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := db.lastWrite(t) - before; got != step.want {
			t.Errorf("%s: %d write transactions, want %d", step.name, got, step.want)
		}
	}
}

// lastWrite is the number of the last write transaction.
func (db *DB) lastWrite(t *testing.T) (id int) {
	t.Helper()
	if err := db.bolt.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

func expectError(err error) error {
	if err == nil {
		return context.Canceled
	}
	return nil
}

func TestNewerFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		return meta.Put(keyVersion, []byte("99"))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := Open(path, Options{}); err == nil {
		t.Error("a newer file is opened")
	}
}

func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	var ran []string
	defer func(old []func(*bbolt.Tx) error) { migrations = old }(migrations)
	migrations = append(migrations,
		func(*bbolt.Tx) error { ran = append(ran, "1 to 2"); return nil },
		func(*bbolt.Tx) error { ran = append(ran, "2 to 3"); return nil })
	for range 2 { // the second time there is nothing to do
		if db, err = Open(path, Options{}); err != nil {
			t.Fatal(err)
		}
		db.Close()
	}
	if len(ran) != 2 || ran[0] != "1 to 2" || ran[1] != "2 to 3" {
		t.Errorf("migrations run: %v", ran)
	}
}
