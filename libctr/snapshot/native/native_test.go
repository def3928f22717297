package native_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/snapshot"
	"gantry/libctr/snapshot/native"
	"gantry/libctr/snapshot/snapshottest"
)

func open(t *testing.T) *native.Snapshotter {
	t.Helper()
	s, err := native.New(t.TempDir(), native.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSnapshotter(t *testing.T) {
	snapshottest.Run(t, func(t *testing.T) (context.Context, snapshot.Snapshotter) { return t.Context(), open(t) })
}

// TestCopyIsExact: every kind of file, to the nanosecond.
func TestCopyIsExact(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes devices")
	}
	s, ctx := open(t), t.Context()
	m, err := s.Prepare(ctx, "a", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	root := m[0].Source
	at := func(name string) string { return filepath.Join(root, name) }
	when := time.Unix(1_500_000_000, 123_456_789)
	err = errors.Join(
		os.MkdirAll(at("d/e"), 0o750), os.WriteFile(at("d/f"), []byte("data"), 0o640), os.Link(at("d/f"), at("same")),
		os.Symlink("/nowhere", at("l")), unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mkfifo(at("p"), 0o600), unix.Setxattr(at("d/f"), "user.x", []byte("y"), 0), os.Lchown(at("l"), 7, 8),
		os.Chown(at("d/f"), 9, 10), os.Chmod(at("d/f"), 0o755|os.ModeSetuid), os.Chtimes(at("d/f"), when, when), os.Chtimes(at("d"), when, when),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, "one", "a", nil); err != nil {
		t.Fatal(err)
	}
	if m, err = s.Prepare(ctx, "b", "one", nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "d", "d/e", "d/f", "same", "l", "null", "p"} {
		var a, b unix.Stat_t
		if err := errors.Join(unix.Lstat(at(name), &a), unix.Lstat(filepath.Join(m[0].Source, name), &b)); err != nil {
			t.Error(err)
			continue
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || a.Nlink != b.Nlink || a.Mtim != b.Mtim {
			t.Errorf("%s: %+v, want %+v", name, b, a)
		}
	}
	buf := make([]byte, 8)
	n, err := unix.Getxattr(filepath.Join(m[0].Source, "same"), "user.x", buf)
	if err != nil || string(buf[:n]) != "y" {
		t.Errorf("attribute %q, %v", buf[:max(n, 0)], err)
	}
}
