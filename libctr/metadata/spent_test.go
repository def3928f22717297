package metadata

import (
	"path/filepath"
	"testing"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/snapshot/overlay"
)

// TestSpentSnapshot: what a commit has taken from the backend without coming to its record
// is forgotten; a snapshot that the backend has lost otherwise is not.
func TestSpentSnapshot(t *testing.T) {
	need.Root(t, "makes snapshots")
	root := t.TempDir()
	snaps, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer snaps.Close()
	db, err := Open(filepath.Join(root, "meta.db"), Options{Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	s := db.snapshotters["overlayfs"]
	backend := map[string]string{}
	for _, key := range []string{"spent", "lost", "there"} {
		if _, err := s.Prepare(ctx, key, "", map[string]string{labelRoot: "x"}); err != nil {
			t.Fatal(err)
		}
		r, err := s.look(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		backend[key] = r.Backend
	}
	if err := snaps.Commit(ctx, committedAs(backend["spent"], "done"), backend["spent"], nil); err != nil {
		t.Fatal(err)
	}
	if err := snaps.Remove(ctx, backend["lost"]); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	for key, there := range map[string]bool{"spent": false, "lost": true, "there": true} {
		if _, err := s.Stat(ctx, key); errdefs.IsNotFound(err) == there {
			t.Errorf("%s: %v", key, err)
		}
	}
	n := 0
	if err := snaps.Walk(ctx, func(snapshot.Info) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("the backend has %d snapshots, %v", n, err)
	}
}
