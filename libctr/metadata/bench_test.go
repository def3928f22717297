package metadata_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"gantry/api/reqctx"
	"gantry/libctr/content"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
	"gantry/libctr/snapshot/overlay"
)

// BenchmarkLife is what the records of one container's life cost, on disk.
func BenchmarkLife(b *testing.B) {
	root := b.TempDir()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	blobs, err := content.New(filepath.Join(root, "content"))
	must(err)
	snaps, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{})
	must(err)
	defer snaps.Close()
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.Options{
		Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps},
	})
	must(err)
	defer db.Close()
	ctx := reqctx.WithNamespace(b.Context(), "testing")
	sn := db.Snapshotter("overlayfs")
	_, err = sn.Prepare(ctx, "x", "", nil)
	must(err)
	must(sn.Commit(ctx, "base", "x", map[string]string{"containerd.io/gc.root": "x"}))

	b.Run("container create and delete", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			c := metadatatest.Container(fmt.Sprint("c", i))
			_, err := db.Containers().Create(ctx, c)
			must(err)
			must(db.Containers().Delete(ctx, c.ID))
		}
	})
	b.Run("snapshot prepare and remove", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			key := fmt.Sprint("s", i)
			_, err := sn.Prepare(ctx, key, "base", nil)
			must(err)
			must(sn.Remove(ctx, key))
		}
	})
	b.Run("collect", func(b *testing.B) {
		for b.Loop() {
			_, err := db.Collect(ctx)
			must(err)
		}
	})
}
