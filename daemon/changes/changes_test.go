package changes_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/daemon/changes"
	"gantry/internal/testutil/need"
)

// tree makes files: "dir/", "file=content", "link@target", "dir/-whiteout".
func tree(t *testing.T, entries ...string) *os.File {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		name, body, _ := strings.Cut(e, "=")
		name, target, _ := strings.Cut(name, "@")
		dir, base := filepath.Split(filepath.Join(root, name))
		path := dir + strings.TrimPrefix(base, "-")
		err := os.MkdirAll(dir, 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case target != "":
			err = os.Symlink(target, path)
		case strings.HasPrefix(base, "-"):
			err = unix.Mknod(path, unix.S_IFCHR, 0)
		default:
			err = os.WriteFile(path, []byte(body), 0o644)
			touch(t, path, unix.Timespec{Sec: 5})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestList(t *testing.T) {
	need.Root(t, "makes whiteouts")
	lower := []string{"a/x=1", "a/y=1", "a/deep/z=1", "b/x=1", "c=1", "e/"}
	for _, row := range []struct {
		name    string
		upper   []string
		overlay bool
		opaque  string
		touch   func(t *testing.T, root string)
		want    string
	}{
		{name: "nothing", overlay: true, want: ""},
		{name: "whole tree, the same", upper: lower, want: ""},
		{name: "whole tree, empty", want: "D/a D/b D/c D/e"},
		{name: "copied up, the same", upper: []string{"a/x=1"}, overlay: true, want: ""},
		{name: "new and changed", upper: []string{"a/x=22", "a/new=1", "n/m/=1"}, overlay: true, want: "C/a A/a/new C/a/x A/n A/n/m"},
		{name: "deleted comes last", upper: []string{"a/-x", "a/z=1", "-c"}, overlay: true, want: "C/a A/a/z D/a/x D/c"},
		{name: "whiteout of nothing", upper: []string{"-none", "a/-none"}, overlay: true, want: ""},
		{name: "opaque", upper: []string{"a/x=22", "a/deep/w=1"}, overlay: true, opaque: "a", want: "C/a C/a/deep A/a/deep/w D/a/deep/z C/a/x D/a/y"},
		{name: "file for a directory", upper: []string{"a=1"}, overlay: true, want: "C/a"},
		{name: "directory for a file", upper: []string{"c/x=1"}, overlay: true, want: "C/c A/c/x"},
		{name: "link for a directory", upper: []string{"a@/etc"}, overlay: true, want: "C/a"},
		{name: "time alone", upper: []string{"c=1"}, overlay: true, want: "C/c", touch: func(t *testing.T, root string) {
			touch(t, root+"/c", unix.Timespec{Sec: 6})
		}},
		{name: "a fraction that layers do not have", upper: []string{"c=1"}, overlay: true, want: "", touch: func(t *testing.T, root string) {
			touch(t, root+"/c", unix.Timespec{Sec: 5, Nsec: 7})
		}},
		{name: "mode and owner of directories", upper: []string{"a/", "b/"}, overlay: true, want: "C/a C/b", touch: func(t *testing.T, root string) {
			if err := errors.Join(os.Chmod(root+"/a", 0o700), os.Chown(root+"/b", 1, 1)); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "capability", upper: []string{"c=1"}, overlay: true, want: "C/c", touch: func(t *testing.T, root string) {
			cap := append([]byte{1, 0, 0, 2}, make([]byte, 16)...)
			if err := unix.Setxattr(root+"/c", "security.capability", cap, 0); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := tree(t, row.upper...)
			if row.opaque != "" {
				if err := unix.Setxattr(filepath.Join(up.Name(), row.opaque), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
					t.Fatal(err)
				}
			}
			if row.touch != nil {
				row.touch(t, up.Name())
			}
			list, err := changes.List(t.Context(), changes.Source{
				Lower: tree(t, lower...), Upper: up, Overlay: row.overlay, Opaque: "trusted.overlay.opaque",
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range list {
				got = append(got, c.Kind.String()+c.Path)
			}
			if strings.Join(got, " ") != row.want {
				t.Errorf("%s\nwant %s", got, row.want)
			}
		})
	}
}

func touch(t *testing.T, path string, at unix.Timespec) {
	t.Helper()
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, 0); err != nil {
		t.Fatal(err)
	}
}

func TestListEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := changes.List(ctx, changes.Source{Lower: tree(t), Upper: tree(t, "a=1")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestListDeep: a tree that is dug without end is refused, not followed.
func TestListDeep(t *testing.T) {
	up := tree(t)
	dir, err := unix.Open(up.Name(), unix.O_PATH|unix.O_DIRECTORY, 0)
	for range 1100 {
		if err == nil {
			err = unix.Mkdirat(dir, "d", 0o755)
		}
		next, openErr := unix.Openat(dir, "d", unix.O_PATH|unix.O_DIRECTORY, 0)
		unix.Close(dir)
		dir, err = next, errors.Join(err, openErr)
	}
	unix.Close(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := changes.List(t.Context(), changes.Source{Lower: tree(t), Upper: up}); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a deep tree: %v", err)
	}
}
