package task

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTrashTriesAgain leaves a directory that can't be removed, for a while, to the next.
func TestTrashTriesAgain(t *testing.T) {
	dir := t.TempDir()
	var bin trash
	take := func(id string) string {
		t.Helper()
		path := filepath.Join(dir, id)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		hidden, err := bin.take(path)
		if err != nil || hidden == "" {
			t.Fatalf("take %s: %q, %v", id, hidden, err)
		}
		return hidden
	}
	stuck := take("one")
	if err := unix.Mount("none", stuck, "tmpfs", 0, ""); err != nil {
		t.Skip("no mounts here: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(stuck, unix.MNT_DETACH) })
	if err := bin.empty(stuck); err == nil {
		t.Error("a directory with a mount on it went away")
	}
	if err := bin.empty(take("one")); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if err := unix.Unmount(stuck, 0); err != nil {
		t.Fatal(err)
	}
	if err := bin.empty(take("two")); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if hidden, err := bin.take(filepath.Join(dir, "gone")); hidden != "" || err != nil {
		t.Errorf("one that is gone: %q, %v", hidden, err)
	}
}
