package overlay_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"gantry/libctr/core/snapshot"
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
