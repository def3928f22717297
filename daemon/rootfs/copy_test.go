package rootfs_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/mount"
)

func copyTo(t testing.TB, src, path, dst string) error {
	t.Helper()
	d, err := os.Open(dst)
	check(t, err)
	defer d.Close()
	return openRoot(t, mount.Mount{Type: "bind", Source: src}).CopyTo(t.Context(), path, d)
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Lstat(path, &st))
	return st
}

func TestCopyToKeepsAll(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	in := filepath.Join(src, "data")
	write(t, in, "sub/file", "hello")
	file, sub := filepath.Join(in, "sub/file"), filepath.Join(in, "sub")
	old := time.Unix(1000000000, 5)
	check(t, os.Link(file, filepath.Join(in, "hard")))
	check(t, os.Symlink("sub/file", filepath.Join(in, "soft")))
	check(t, unix.Mkfifo(filepath.Join(in, "fifo"), 0o640))
	check(t, os.Lchown(filepath.Join(in, "soft"), 5, 6))
	check(t, os.Chown(file, 1, 2))
	check(t, unix.Chmod(file, 0o4751))
	check(t, unix.Setxattr(file, "user.test", []byte("v"), 0))
	check(t, os.Chown(in, 7, 8))
	check(t, unix.Chmod(in, 0o1770))
	check(t, os.Chtimes(file, old, old))
	check(t, os.Chtimes(sub, old, old))
	check(t, os.Chtimes(in, old, old))

	check(t, copyTo(t, src, "/data", dst))
	for _, name := range []string{"", "sub", "sub/file", "hard", "soft", "fifo"} {
		a, b := stat(t, filepath.Join(in, name)), stat(t, filepath.Join(dst, name))
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim {
			t.Errorf("%q: mode %o owner %d:%d time %d became %o %d:%d %d", name, a.Mode, a.Uid, a.Gid, a.Mtim.Sec, b.Mode, b.Uid, b.Gid, b.Mtim.Sec)
		}
	}
	if a, b := stat(t, filepath.Join(dst, "sub/file")), stat(t, filepath.Join(dst, "hard")); a.Ino != b.Ino {
		t.Error("hard link became a copy")
	}
	if l, err := os.Readlink(filepath.Join(dst, "soft")); err != nil || l != "sub/file" {
		t.Errorf("link %q, %v", l, err)
	}
	var value [8]byte
	if n, err := unix.Getxattr(filepath.Join(dst, "hard"), "user.test", value[:]); err != nil || string(value[:n]) != "v" {
		t.Errorf("xattr %q, %v", value[:n], err)
	}
	if p, err := os.ReadFile(filepath.Join(dst, "hard")); err != nil || string(p) != "hello" {
		t.Errorf("content %q, %v", p, err)
	}
}

// TestCopyToFollowsNothing: neither a link in the source nor one put into the target
// beforehand is followed.
func TestCopyToFollowsNothing(t *testing.T) {
	src, dst, outside := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, src, "data/name/file", "x")
	check(t, os.Symlink(outside, filepath.Join(dst, "name")))
	if err := copyTo(t, src, "data", dst); !errors.Is(err, fs.ErrExist) {
		t.Errorf("copy over a link: %v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
	check(t, os.Symlink("/", filepath.Join(src, "root")))
	write(t, src, "only", "x")
	dst = t.TempDir()
	check(t, copyTo(t, src, "root/data", dst)) // "/" is the tree's own root
	if _, err := os.Stat(filepath.Join(dst, "name/file")); err != nil {
		t.Error(err)
	}
}

func TestCopyToErrors(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	write(t, src, "file", "x")
	if err := copyTo(t, src, "nope", dst); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := copyTo(t, src, "file", dst); err == nil || err.Error() != "source file is not a directory" {
		t.Errorf("a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := os.Open(dst)
	check(t, err)
	defer d.Close()
	if err := openRoot(t, mount.Mount{Type: "bind", Source: src}).CopyTo(ctx, "/", d); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
