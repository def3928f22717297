package rootfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/daemon/rootfs"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

// bound opens an overlay with binds over it.
func bound(t testing.TB, m mount.Mount, lock bool, binds ...rootfs.Bind) *rootfs.Root {
	t.Helper()
	r, err := rootfs.OpenWritable([]mount.Mount{m})
	check(t, err)
	view, err := r.Bind(t.Context(), binds, lock)
	check(t, err)
	t.Cleanup(func() { view.Close() })
	return view
}

func create(r *rootfs.Root, name string) error {
	f, err := r.OpenInRoot(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Mknodat(int(f.Fd()), filepath.Base(name), unix.S_IFREG|0o644, 0)
}

func TestBind(t *testing.T) {
	need.Root(t, "mounts file systems")
	lower, vol, ro, file := t.TempDir(), t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "file")
	write(t, lower, "etc/passwd", "")
	check(t, os.WriteFile(file, []byte("bound"), 0o644))
	m, upper := overlayMount(t, lower, t.TempDir())
	r := bound(t, m, false,
		rootfs.Bind{Source: vol, Destination: "/new/vol", Writable: true},
		rootfs.Bind{Source: ro, Destination: "/new/vol/ro"},
		rootfs.Bind{Source: file, Destination: "/etc/file"})

	for name, want := range map[string]error{"/top": nil, "/new/vol/x": nil, "/new/vol/ro/x": unix.EROFS} {
		if err := create(r, name); !errors.Is(err, want) {
			t.Errorf("create %s: %v, want %v", name, err, want)
		}
	}
	for _, path := range []string{filepath.Join(upper, "top"), filepath.Join(vol, "x"), filepath.Join(vol, "ro")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if got, err := r.ReadFile("/etc/file", 100); err != nil || string(got) != "bound" {
		t.Errorf("bound file: %q, %v", got, err)
	}
	if info, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(info), upper) {
		t.Errorf("mounted for all to see, %v", err)
	}
}

func TestBindLocked(t *testing.T) {
	need.Root(t, "mounts file systems")
	vol := t.TempDir()
	m, _ := overlayMount(t, t.TempDir(), t.TempDir())
	r := bound(t, m, true, rootfs.Bind{Source: vol, Destination: "/vol", Writable: true})
	if err := create(r, "/top"); !errors.Is(err, unix.EROFS) {
		t.Errorf("locked root: %v", err)
	}
	if err := create(r, "/vol/x"); err != nil {
		t.Error(err)
	}
}

func TestBindErrors(t *testing.T) {
	need.Root(t, "mounts file systems")
	m, _ := overlayMount(t, t.TempDir(), t.TempDir())
	for name, want := range map[string]error{filepath.Join(t.TempDir(), "nope"): unix.ENOENT, t.TempDir(): unix.EROFS} {
		r, err := rootfs.Open([]mount.Mount{m})
		check(t, err)
		_, err = r.Bind(t.Context(), []rootfs.Bind{{Source: name, Destination: "/vol"}}, false)
		if !errors.Is(err, want) {
			t.Errorf("bind %s: %v, want %v", name, err, want)
		}
	}
}

func TestIsMountPoint(t *testing.T) {
	need.Root(t, "mounts file systems")
	m, _ := overlayMount(t, t.TempDir(), t.TempDir())
	r := bound(t, m, false, rootfs.Bind{Source: t.TempDir(), Destination: "/vol/in"})
	dir, err := r.OpenInRoot("/vol", unix.O_PATH)
	check(t, err)
	defer dir.Close()
	for name, want := range map[string]bool{"in": true, "nope": false} {
		if got, err := r.IsMountPoint(dir, "/vol", name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/b/file", "")
	for name, to := range map[string]string{
		"abs": "/a/b", "rel": "a/b", "a/up": "../../../../a/b", "a/b/chain": "../../abs/file",
		"loop": "loop", "out": "/etc/nowhere", "missing": "a/none/x",
	} {
		check(t, os.Symlink(to, filepath.Join(dir, name)))
	}
	r := openRoot(t, mount.Mount{Type: "bind", Source: dir})
	for name, want := range map[string]string{
		"/": "/", "a/./b/../b/": "/a/b", "/abs/file": "/a/b/file", "/rel/..": "/a", "/a/up/file": "/a/b/file",
		"/abs/chain": "/a/b/file", "/out": "/etc/nowhere", "/missing/y": "/a/none/x/y", "/../../x": "/x",
	} {
		if got, err := r.Resolve(name); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := r.Resolve("/loop"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("loop: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	need.Root(t, "mounts a file system")
	dir, outside := t.TempDir(), t.TempDir()
	check(t, os.Symlink(outside, filepath.Join(dir, "link")))
	check(t, os.Symlink("/real", filepath.Join(dir, "in")))
	check(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	r, err := rootfs.OpenWritable([]mount.Mount{{Type: "bind", Source: dir}})
	check(t, err)
	defer r.Close()
	f, err := r.MkdirAll("/in/x/y", 0o755)
	check(t, err)
	f.Close()
	if _, err := os.Stat(filepath.Join(dir, "real/x/y")); err != nil {
		t.Error(err)
	}
	if _, err := r.MkdirAll("/link/x", 0o755); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("through a link that leads nowhere inside: %v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("made outside: %v", left)
	}
}

func TestLookupOwner(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/passwd", "root:x:0:0:::\nwww:x:33:44:::\n")
	write(t, dir, "etc/group", "staff:x:50:\n")
	r := openRoot(t, mount.Mount{Type: "bind", Source: dir})
	for spec, want := range map[string][2]int{
		"www": {33, 44}, "33": {33, 44}, "7": {7, 0}, "7:8": {7, 8}, "www:staff": {33, 50}, ":staff": {0, 50}, "33:": {33, 44},
	} {
		if uid, gid, err := r.LookupOwner(spec); err != nil || uid != want[0] || gid != want[1] {
			t.Errorf("%q: %d:%d, %v", spec, uid, gid, err)
		}
	}
	for spec, want := range map[string]string{
		"nobody":   `failed to look up user "nobody" in container: no matching entries in passwd file`,
		"0:nobody": `failed to look up group "nobody" in container: no matching entries in group file`,
	} {
		if _, _, err := r.LookupOwner(spec); err == nil || err.Error() != want {
			t.Errorf("%q: %v", spec, err)
		}
	}
}
