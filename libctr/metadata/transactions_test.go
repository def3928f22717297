package metadata

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/database"
	"gantry/api/reqctx"
	"gantry/internal/testutil/stored"
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
		Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps}, Boot: filepath.Join(root, "boot.db"),
	})
	must(err)
	defer db.Close()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	sn := db.Snapshotter("overlayfs")
	record := wire.FromContainer(&containersapi.Container{
		ID: "c", Runtime: &containersapi.Container_Runtime{Name: "r"}, Spec: &anypb.Any{},
	})
	ofBoot := record
	ofBoot.ID, ofBoot.Labels = "b", map[string]string{container.LabelOfBoot: "true"}
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
		{"container create, of the boot", 0, func() error { _, err := db.Containers().Create(ctx, ofBoot); return err }},
		{"container delete, of the boot", 0, func() error { return db.Containers().Delete(ctx, "b") }},
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

// TestFirstVersion opens a file that the first version has written, as it is and with a
// version after it.
func TestFirstVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	stored.Unpack(t, "testdata/v1.db.gz", path)
	ran := 0
	defer func(old []func(*bbolt.Tx) error) { migrations = old }(migrations)
	for _, steps := range [][]func(*bbolt.Tx) error{migrations, append(migrations, func(*bbolt.Tx) error { ran++; return nil })} {
		migrations = steps
		db, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkFirst(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if ran != 1 {
		t.Errorf("the step ran %d times", ran)
	}
	migrations = migrations[:1]
	if _, err := Open(path, Options{}); !errors.Is(err, database.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("a newer file is opened: %v", err)
	}
}

func checkFirst(t *testing.T, db *DB) {
	t.Helper()
	ctx := reqctx.WithNamespace(t.Context(), "moby")
	images, err := db.Images().List(ctx)
	if err != nil || len(images) == 0 || images[0].Target.Digest == "" {
		t.Errorf("images %+v, %v", images, err)
	}
	all, err := db.Containers().List(ctx)
	if err != nil || len(all) != 1 || all[0].Runtime.Name != "io.containerd.gantry.v2" || all[0].Spec == nil {
		t.Errorf("containers %+v, %v", all, err)
	}
	n := 0
	_ = db.view(func(tx *bbolt.Tx) error {
		for _, kind := range []string{"content", "snapshots"} {
			_ = bucket(tx, "moby", kind).ForEach(func([]byte, []byte) error { n++; return nil })
		}
		return nil
	})
	if n < 4 { // a manifest, a configuration and a layer; the snapshotter
		t.Errorf("%d records of content and snapshots", n)
	}
}
