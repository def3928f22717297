package rootfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/daemon/rootfs"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, dir, name, body string) {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(body), 0o644))
}

// overlayMount is what a snapshotter gives for an active snapshot with lowers below it.
func overlayMount(t testing.TB, lowers ...string) (m mount.Mount, upper string) {
	t.Helper()
	dir := t.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	check(t, os.Mkdir(upper, 0o755))
	check(t, os.Mkdir(work, 0o755))
	return mount.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"index=off", "lowerdir=" + strings.Join(lowers, ":"), "upperdir=" + upper, "workdir=" + work,
	}}, upper
}

func openRoot(t testing.TB, m ...mount.Mount) *rootfs.Root {
	t.Helper()
	need.Root(t, "mounts a file system")
	r, err := rootfs.Open(m)
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// attached says whether the mount of a descriptor is in this process's tree.
func attached(t testing.TB, fd int) bool {
	t.Helper()
	var st unix.Statx_t
	check(t, unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st))
	p, err := os.ReadFile("/proc/self/mountinfo")
	check(t, err)
	return strings.Contains("\n"+string(p), fmt.Sprintf("\n%d ", st.Mnt_id))
}

func TestOpenOverlay(t *testing.T) {
	base, mid := t.TempDir(), t.TempDir()
	write(t, base, "a", "base")
	write(t, base, "b", "base")
	write(t, mid, "b", "mid")
	m, upper := overlayMount(t, mid, base)
	write(t, upper, "c", "upper")
	r := openRoot(t, m)
	if attached(t, r.FD()) {
		t.Error("the mount is in the tree")
	}
	for name, want := range map[string]string{"a": "base", "b": "mid", "/c": "upper"} {
		got, err := r.ReadFile(name, 100)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := r.OpenInRoot("new", unix.O_CREAT|unix.O_WRONLY); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("writing: %v", err)
	}
}

func TestOpenWritable(t *testing.T) {
	need.Root(t, "mounts a file system")
	base, other := t.TempDir(), t.TempDir()
	m, upper := overlayMount(t, base, other)
	r, err := rootfs.OpenWritable([]mount.Mount{m})
	check(t, err)
	defer r.Close()
	check(t, unix.Mkdirat(r.FD(), "made", 0o755))
	if _, err := os.Stat(filepath.Join(upper, "made")); err != nil {
		t.Error(err)
	}
}

func TestOpenBind(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "x")
	for _, m := range []mount.Mount{
		{Type: "bind", Source: dir, Options: []string{"rw", "rbind"}},
		{Type: "overlay", Options: []string{"lowerdir=" + dir}},
	} {
		r := openRoot(t, m)
		if got, err := r.ReadFile("a", 10); err != nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", m.Type, got, err)
		}
		if err := unix.Mkdirat(r.FD(), "made", 0o755); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: writing: %v", m.Type, err)
		}
	}
}

// TestOpenManyLayers has more and longer paths than one string of fsconfig takes, and
// one with a comma.
func TestOpenManyLayers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40)+",comma")
	var lowers []string
	for i := range 120 {
		l := filepath.Join(dir, fmt.Sprintf("layer%03d", i))
		write(t, l, fmt.Sprintf("f%d", i), "x")
		lowers = append(lowers, l)
	}
	m, _ := overlayMount(t, lowers...)
	r := openRoot(t, m)
	for _, name := range []string{"f0", "f119"} {
		if _, err := r.ReadFile(name, 10); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	need.Root(t, "mounts a file system")
	for _, ms := range [][]mount.Mount{
		nil,
		{{Type: "nope"}},
		{{Type: "bind", Source: "/does/not/exist"}},
		{{Type: "overlay", Options: []string{"lowerdir=/does/not/exist:/neither"}}},
		{{Type: "overlay", Options: []string{"lowerdir=/tmp:/var", "nonsense=1"}}},
	} {
		if r, err := rootfs.Open(ms); err == nil {
			r.Close()
			t.Errorf("opened %v", ms)
		}
	}
}

func TestOpenInRootStaysInside(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(outside, []byte("secret"), 0o600))
	write(t, dir, "etc/inner", "inner")
	check(t, os.Symlink(outside, filepath.Join(dir, "abs")))
	check(t, os.Symlink("../../../../../../../etc/inner", filepath.Join(dir, "up")))
	check(t, os.Symlink("/proc/self/fd", filepath.Join(dir, "magic")))
	check(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	r := openRoot(t, mount.Mount{Type: "bind", Source: dir})
	if _, err := r.ReadFile("abs", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absolute link: %v", err)
	}
	if got, err := r.ReadFile("up", 10); err != nil || string(got) != "inner" {
		t.Errorf("link with dots: %q, %v", got, err)
	}
	for _, name := range []string{"fifo", "etc", "magic/0", "nope"} {
		if _, err := r.ReadFile(name, 10); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if got, err := r.ReadFile("etc/inner", 3); err != nil || string(got) != "inn" {
		t.Errorf("bounded read: %q, %v", got, err)
	}
}

func TestLookupUser(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\nnohome:x:44:44:::\nbroken\n")
	write(t, dir, "etc/group", "root:x:0:\nwheel:x:10:root,web\nweb:x:33:\nextra:x:77:\n")
	empty := t.TempDir()
	hostile := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(hostile, "etc"), 0o755))
	check(t, unix.Mkfifo(filepath.Join(hostile, "etc/passwd"), 0o600))
	check(t, os.Symlink("/dev/zero", filepath.Join(hostile, "etc/group")))
	for _, c := range []struct {
		why, dir, spec string
		groups         []string
		uid, gid       uint32
		gids           []uint32
		home           string
		err            string
	}{
		{why: "nothing is root, with its groups", dir: dir, gids: []uint32{0, 10}, home: "/root"},
		{why: "name", dir: dir, spec: "web", uid: 33, gid: 33, gids: []uint32{33, 10}, home: "/var/www"},
		{why: "name and group", dir: dir, spec: "web:extra", uid: 33, gid: 77, gids: []uint32{77}, home: "/var/www"},
		{why: "known number", dir: dir, spec: "33", uid: 33, gid: 33, gids: []uint32{33, 10}, home: "/var/www"},
		{why: "unknown numbers", dir: dir, spec: "1234:5678", uid: 1234, gid: 5678, gids: []uint32{5678}, home: "/"},
		{why: "additional groups", dir: dir, spec: "web", groups: []string{"extra", "99"}, uid: 33, gid: 33, gids: []uint32{33, 10, 77, 99}, home: "/var/www"},
		{why: "no home", dir: dir, spec: "nohome", uid: 44, gid: 44, gids: []uint32{44}, home: "/"},
		{why: "no files", dir: empty, spec: "1:2", uid: 1, gid: 2, gids: []uint32{2}, home: "/"},
		{why: "files that are none", dir: hostile, spec: "1", uid: 1, gids: []uint32{0}, home: "/"},
		{why: "unknown name", dir: dir, spec: "nope", err: "unable to find user nope: no matching entries in passwd file"},
		{why: "name without files", dir: empty, spec: "web", err: "unable to find user web: no matching entries in passwd file"},
		{why: "unknown group", dir: dir, spec: "web:nope", err: "unable to find group nope: no matching entries in group file"},
		{why: "unknown additional group", dir: dir, groups: []string{"nope"}, err: "unable to find group nope: no matching entries in group file"},
		{why: "additional group without a name", dir: dir, groups: []string{"extra", ""}, err: `unable to find additional groups ["extra" ""]: a group has no name`},
		{why: "too big", dir: dir, spec: "4294967296", err: "uids and gids must be in range 0-2147483647"},
	} {
		t.Run(c.why, func(t *testing.T) {
			u, home, err := openRoot(t, mount.Mount{Type: "bind", Source: c.dir}).LookupUser(c.spec, c.groups)
			if c.err != "" {
				if err == nil || err.Error() != c.err || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error %v", err)
				}
				return
			}
			check(t, err)
			slices.Sort(u.AdditionalGids[1:])
			slices.Sort(c.gids[1:])
			if u.UID != c.uid || u.GID != c.gid || !slices.Equal(u.AdditionalGids, c.gids) || home != c.home {
				t.Errorf("got %+v, home %q", u, home)
			}
		})
	}
}

func FuzzLookupUser(f *testing.F) {
	need.Root(f, "mounts a file system")
	f.Add("web:web", "web:x:33:33::/var/www:/bin/false\n", "web:x:33:\n")
	f.Add("", "", "")
	f.Add("1:", "::::::\n", "\x00")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		dir := t.TempDir()
		write(t, dir, "etc/passwd", passwd)
		write(t, dir, "etc/group", group)
		u, home, err := openRoot(t, mount.Mount{Type: "bind", Source: dir}).LookupUser(spec, nil)
		if err == nil && (home == "" || len(u.AdditionalGids) == 0) {
			t.Errorf("%+v %q", u, home)
		}
	})
}
