package overlay_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
	"gantry/libctr/snapshot/overlay"
	"gantry/libctr/snapshot/snapshottest"
)

func open(t *testing.T, root string) *overlay.Snapshotter {
	t.Helper()
	s, err := overlay.New(root, overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSnapshotter(t *testing.T) {
	snapshottest.Run(t, func(t *testing.T) (context.Context, snapshot.Snapshotter) {
		return t.Context(), open(t, t.TempDir())
	})
}

// entries lists a directory, nil when it is not there.
func entries(dir string) (names []string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestCrashLeavings(t *testing.T) {
	root := t.TempDir()
	s, err := overlay.New(root, overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(t.Context(), "lost", "", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dirs := entries(filepath.Join(root, "snapshots"))
	if len(dirs) != 1 {
		t.Fatalf("directories %v", dirs)
	}
	// The directory's record was never written; another's directory went in a power cut.
	if err := os.Rename(filepath.Join(root, "snapshots", dirs[0]), filepath.Join(root, "snapshots", "77")); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	if err := s.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entries(filepath.Join(root, "snapshots")); len(got) != 1 || got[0] != dirs[0] {
		t.Errorf("directories %v, want %v: swept and made again", got, dirs)
	}
	if got := entries(filepath.Join(root, "removing")); len(got) != 0 {
		t.Errorf("left in removing: %v", got)
	}
	if m, err := s.Prepare(t.Context(), "next", "", nil); err != nil || filepath.Base(filepath.Dir(m[0].Source)) != "78" {
		t.Errorf("the next id is in %v, %v; want 78", m, err)
	}
}

func TestRemoveIsQuickAndEmpties(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	m, err := s.Prepare(t.Context(), "a", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(m[0].Source, "deep/er"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := entries(filepath.Join(root, "snapshots")); len(got) != 0 {
		t.Errorf("left in snapshots: %v", got)
	}
	if err := s.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entries(filepath.Join(root, "removing")); len(got) != 0 {
		t.Errorf("left in removing: %v", got)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	for range 2 {
		s.Prepare(t.Context(), "a", "", nil) //nolint:errcheck // the second fails
	}
	if err := s.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := entries(filepath.Join(root, "snapshots")); len(got) != 1 {
		t.Errorf("directories %v, want one", got)
	}
}

func TestUnusableRoot(t *testing.T) {
	if _, err := overlay.New(filepath.Join(t.TempDir(), "with:colon"), overlay.Options{}); err == nil {
		t.Error("a root with a colon is taken")
	}
}

// A power cut may take a container's empty directories though its record is there.
func TestLostAboveParent(t *testing.T) {
	root := t.TempDir()
	s, err := overlay.New(root, overlay.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	layer, err := s.Prepare(t.Context(), "extract", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(layer[0].Source, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), "layer", "extract", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(t.Context(), "container", "layer", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(root, "snapshots", "2")
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	open(t, root)
	for _, dir := range []string{"fs", "work"} {
		if _, err := os.Stat(filepath.Join(lost, dir)); err != nil {
			t.Error(err)
		}
	}
	if fi, err := os.Stat(filepath.Join(lost, "fs")); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("the root is not like the parent's: %v, %v", fi, err)
	}
}

// TestUpperdirLabel shows where a snapshot is, also through the core's records.
func TestUpperdirLabel(t *testing.T) {
	root := t.TempDir()
	backend, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{NoSync: true, UpperdirLabel: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.Options{
		Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": backend},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for name, s := range map[string]snapshot.Snapshotter{"backend": backend, "recorded": db.Snapshotter("overlayfs")} {
		t.Run(name, func(t *testing.T) {
			ctx := reqctx.WithNamespace(t.Context(), "ns")
			mounts, err := s.Prepare(ctx, "a", "", map[string]string{"own": "1"})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"own": "1", snapshot.LabelUpperdir: mounts[0].Source}
			if stat, err := s.Stat(ctx, "a"); err != nil || !maps.Equal(stat.Labels, want) {
				t.Errorf("stat: %v, %v; want %v", stat.Labels, err, want)
			}
			seen := 0
			if err := s.Walk(ctx, func(i snapshot.Info) error {
				if i.Name == "a" && maps.Equal(i.Labels, want) {
					seen++
				}
				return nil
			}); err != nil || seen != 1 {
				t.Errorf("walk: %d, %v", seen, err)
			}
			if _, err := s.Stat(ctx, "b"); !errdefs.IsNotFound(err) {
				t.Errorf("what is not there: %v", err)
			}
		})
	}
}
