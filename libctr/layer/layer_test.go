package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/libctr/layer"
)

func needRoot(t testing.TB) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets owners, makes devices")
	}
}

var stamp = time.Unix(1_600_000_000, 123_000_000).UTC()

// entry makes a header with defaults; a name ending in a slash is a directory.
func entry(name string, edit ...func(*tar.Header)) *tar.Header {
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: stamp, Format: tar.FormatPAX}
	if strings.HasSuffix(name, "/") {
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
	}
	for _, e := range edit {
		e(h)
	}
	return h
}

func symlink(to string) func(*tar.Header) {
	return func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, to }
}
func hardlink(to string) func(*tar.Header) {
	return func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, to }
}
func data(s string) func(*tar.Header) {
	return func(h *tar.Header) {
		h.Size = int64(len(s))
		h.PAXRecords = map[string]string{"GANTRY.test": s}
	}
}
func kind(flag byte) func(*tar.Header) { return func(h *tar.Header) { h.Typeflag = flag } }

// pack makes a tar; a file's data is in its record GANTRY.test.
func pack(t testing.TB, headers ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		content := h.PAXRecords["GANTRY.test"]
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func apply(t testing.TB, target layer.Target, headers ...*tar.Header) error {
	t.Helper()
	return layer.Apply(context.Background(), pack(t, headers...), target)
}

// list describes a tree, one line for each path.
func list(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		lines = append(lines, rel+describe(t, path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func describe(t testing.TB, path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "/"
	case unix.S_IFLNK:
		to, _ := os.Readlink(path)
		return " -> " + to
	case unix.S_IFCHR, unix.S_IFBLK:
		return fmt.Sprintf(" dev %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		return " fifo"
	}
	p, _ := os.ReadFile(path)
	return " = " + string(p)
}

func TestApply(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		name    string
		before  []*tar.Header
		entries []*tar.Header
		want    []string
	}{
		{"files and directories", nil, []*tar.Header{entry("a/"), entry("a/f", data("1")), entry("./b", data("2"))}, []string{"a/", "a/f = 1", "b = 2"}},
		{"parents that nobody announced", nil, []*tar.Header{entry("x/y/z", data("1"))}, []string{"x/", "x/y/", "x/y/z = 1"}},
		{"absolute and dotted names", nil, []*tar.Header{entry("/a", data("1")), entry("b/../c", data("2"))}, []string{"a = 1", "c = 2"}},
		{"hard link", nil, []*tar.Header{entry("a", data("1")), entry("b", hardlink("./a"))}, []string{"a = 1", "b = 1"}},
		{"links", nil, []*tar.Header{entry("l", symlink("/etc/passwd")), entry("m", symlink("../../up"))}, []string{"l -> /etc/passwd", "m -> ../../up"}},
		{"fifo and devices", nil, []*tar.Header{
			entry("p", kind(tar.TypeFifo)),
			entry("null", kind(tar.TypeChar), func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 }),
			entry("disk", kind(tar.TypeBlock), func(h *tar.Header) { h.Devmajor, h.Devminor = 259, 70000 }),
		}, []string{"disk dev 259:70000", "null dev 1:3", "p fifo"}},
		{"a link on the way stays inside", []*tar.Header{entry("usr/"), entry("usr/lib/"), entry("lib", symlink("usr/lib")), entry("abs", symlink("/usr"))},
			[]*tar.Header{entry("lib/so", data("1")), entry("abs/bin", data("2"))},
			[]string{"abs -> /usr", "lib -> usr/lib", "usr/", "usr/bin = 2", "usr/lib/", "usr/lib/so = 1"}},
		{"replace a file", []*tar.Header{entry("a", data("old"))}, []*tar.Header{entry("a", data("new"))}, []string{"a = new"}},
		{"replace a link, not what it leads to", []*tar.Header{entry("t", data("t")), entry("l", symlink("t"))},
			[]*tar.Header{entry("l", data("new"))}, []string{"l = new", "t = t"}},
		{"replace a directory by a file", []*tar.Header{entry("d/"), entry("d/x/y", data("1"))}, []*tar.Header{entry("d", data("f"))}, []string{"d = f"}},
		{"replace a file by a directory", []*tar.Header{entry("d", data("f"))}, []*tar.Header{entry("d/"), entry("d/x", data("1"))}, []string{"d/", "d/x = 1"}},
		{"a directory again keeps what is in it", []*tar.Header{entry("d/"), entry("d/x", data("1"))}, []*tar.Header{entry("d/")}, []string{"d/", "d/x = 1"}},
		{"whiteout", []*tar.Header{entry("a", data("1")), entry("d/"), entry("d/x", data("2")), entry("k", data("3"))},
			[]*tar.Header{entry(".wh.a"), entry(".wh.d"), entry(".wh.nothing")}, []string{"k = 3"}},
		{"whiteout spares this layer's own", []*tar.Header{entry("a", data("old"))},
			[]*tar.Header{entry("a", data("new")), entry(".wh.a")}, []string{"a = new"}},
		{"opaque", []*tar.Header{entry("d/"), entry("d/old", data("1")), entry("d/sub/"), entry("d/sub/old", data("2"))},
			[]*tar.Header{entry("d/"), entry("d/sub/"), entry("d/sub/new", data("3")), entry("d/.wh..wh..opq"), entry("d/later", data("4"))},
			[]string{"d/", "d/later = 4", "d/sub/", "d/sub/new = 3"}},
		{"aufs's own", nil, []*tar.Header{entry(".wh..wh.plnk/"), entry(".wh..wh.aufs", data("x"))}, nil},
		{"global header", nil, []*tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, entry("a")}, []string{"a = "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			for _, headers := range [][]*tar.Header{tc.before, tc.entries} {
				if err := apply(t, layer.Target{Dir: root}, headers...); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := list(t, root), strings.Join(tc.want, "\n"); got != want {
				t.Errorf("tree:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestApplyAttributes(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	old := time.Unix(1_000_000_000, 0)
	err := apply(t, layer.Target{Dir: root},
		entry("./", func(h *tar.Header) { h.Mode, h.Uid, h.Gid, h.ModTime = 0o1777, 5, 6, old }),
		entry("d/", func(h *tar.Header) { h.Mode, h.Uid, h.ModTime = 0o2750, 1000, old }),
		entry("d/suid", data("x"), func(h *tar.Header) {
			h.Mode, h.Uid, h.Gid = 0o6755, 1000, 1001
			h.PAXRecords["SCHILY.xattr.user.note"] = "hello"
			h.PAXRecords["SCHILY.xattr.trusted.overlay.redirect"] = "/elsewhere"
			h.PAXRecords["SCHILY.xattr.user.overlay.opaque"] = "y"
			h.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		}),
		entry("d/link", symlink("suid"), func(h *tar.Header) { h.Uid, h.ModTime = 77, old }),
		entry("d/ancient", func(h *tar.Header) { h.ModTime = time.Unix(-5, 0) }),
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]unix.Stat_t{
		".":         {Mode: unix.S_IFDIR | 0o1777, Uid: 5, Gid: 6, Mtim: unix.Timespec{Sec: 1_000_000_000}},
		"d":         {Mode: unix.S_IFDIR | 0o2750, Uid: 1000, Mtim: unix.Timespec{Sec: 1_000_000_000}},
		"d/suid":    {Mode: unix.S_IFREG | 0o6755, Uid: 1000, Gid: 1001, Mtim: unix.Timespec{Sec: stamp.Unix(), Nsec: 123_000_000}},
		"d/link":    {Mode: unix.S_IFLNK | 0o777, Uid: 77, Mtim: unix.Timespec{Sec: 1_000_000_000}},
		"d/ancient": {Mode: unix.S_IFREG | 0o644},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, name), &st); err != nil {
			t.Fatal(err)
		}
		got := unix.Stat_t{Mode: st.Mode, Uid: st.Uid, Gid: st.Gid, Mtim: st.Mtim}
		if got != want {
			t.Errorf("%s: mode %o owner %d:%d time %v, want %o %d:%d %v", name, got.Mode, got.Uid, got.Gid, got.Mtim, want.Mode, want.Uid, want.Gid, want.Mtim)
		}
	}
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(filepath.Join(root, "d/suid"), buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	if !slices.Equal(names, []string{"security.capability", "user.note"}) {
		t.Errorf("attributes %v: overlayfs's own must not be taken", names)
	}
}

func TestApplyHostile(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		name    string
		entries []*tar.Header
		refused bool
	}{
		{"dots up", []*tar.Header{entry("../outside/canary", data("x"))}, false},
		{"dots up inside", []*tar.Header{entry("a/"), entry("a/../../../outside/canary", data("x"))}, false},
		{"absolute link on the way", []*tar.Header{entry("l", symlink("OUTSIDE")), entry("l/canary", data("x"))}, true},
		{"relative link on the way", []*tar.Header{entry("l", symlink("../outside")), entry("l/canary", data("x"))}, true},
		{"chain of links", []*tar.Header{entry("a", symlink("b")), entry("b", symlink("../outside")), entry("a/canary", data("x"))}, true},
		{"link that turns into a directory and back", []*tar.Header{
			entry("d/"), entry("d/x", data("1")), entry("d", symlink("OUTSIDE")), entry("d/canary", data("x"))}, true},
		{"write through a link", []*tar.Header{entry("l", symlink("OUTSIDE/canary")), entry("l", data("x"))}, false},
		{"directory through a link", []*tar.Header{entry("l", symlink("OUTSIDE")), entry("l/", func(h *tar.Header) { h.Mode = 0 })}, false},
		{"whiteout through a link", []*tar.Header{entry("l", symlink("OUTSIDE")), entry("l/.wh.canary")}, true},
		{"opaque through a link", []*tar.Header{entry("l", symlink("../outside")), entry("l/.wh..wh..opq")}, true},
		{"whiteout of the parent", []*tar.Header{entry("a/.wh...")}, true},
		{"whiteout of itself", []*tar.Header{entry(".wh..")}, true},
		{"whiteout of nothing", []*tar.Header{entry(".wh.")}, true},
		{"hard link out", []*tar.Header{entry("h", hardlink("../outside/canary"))}, true},
		{"hard link out by an absolute name", []*tar.Header{entry("h", hardlink("OUTSIDE/canary"))}, true},
		{"hard link through a link", []*tar.Header{entry("l", symlink("OUTSIDE")), entry("h", hardlink("l/canary")), entry("h", data("x"))}, true},
		{"hard link to the root", []*tar.Header{entry("h", hardlink("/"))}, true},
		{"a link to itself on the way", []*tar.Header{entry("l", symlink("l")), entry("l/x", data("x"))}, true},
		{"a file on the way", []*tar.Header{entry("f", data("x")), entry("f/x", data("x"))}, true},
		{"magic link on the way", []*tar.Header{entry("l", symlink("/proc/self/root")), entry("l/x", data("x"))}, true},
		{"owner out of range", []*tar.Header{entry("f", func(h *tar.Header) { h.Uid = 1<<32 - 1 })}, true},
		{"long name", []*tar.Header{entry(strings.Repeat("long/", 1000))}, true},
		{"long component", []*tar.Header{entry(strings.Repeat("x", 300))}, true},
		{"long link", []*tar.Header{entry("l", symlink(strings.Repeat("x", 5000)))}, true},
		{"unknown type", []*tar.Header{entry("f", kind('Z'))}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			jail := newJail(t)
			for _, h := range tc.entries {
				h.Linkname = strings.Replace(h.Linkname, "OUTSIDE", jail.outside, 1)
			}
			err := apply(t, layer.Target{Dir: jail.root}, tc.entries...)
			jail.check(t)
			if tc.refused != (err != nil) {
				t.Errorf("applied: %v, refused should be %v", err, tc.refused)
			}
			if err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("class of %v is not InvalidArgument", err)
			}
		})
	}
}

// jail has a root to apply to and something beside it that must stay as it is.
type jail struct{ dir, root, outside string }

func newJail(t testing.TB) jail {
	t.Helper()
	dir := t.TempDir()
	j := jail{dir, filepath.Join(dir, "root"), filepath.Join(dir, "outside")}
	for _, d := range []string{j.root, j.outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(j.outside, "canary"), []byte("alive"), 0o640); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j jail) check(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(j.dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("beside the root: %v, %v", entries, err)
	}
	if got := list(t, j.outside); got != "canary = alive" {
		t.Fatalf("outside: %s", got)
	}
	var dir, file unix.Stat_t
	if err := errors.Join(unix.Lstat(j.outside, &dir), unix.Lstat(filepath.Join(j.outside, "canary"), &file)); err != nil {
		t.Fatal(err)
	}
	if dir.Mode != unix.S_IFDIR|0o755 || file.Mode != unix.S_IFREG|0o640 || file.Nlink != 1 || file.Uid != 0 {
		t.Fatalf("outside: modes %o %o, %d links, owner %d", dir.Mode, file.Mode, file.Nlink, file.Uid)
	}
}

func TestApplyOverlay(t *testing.T) {
	needRoot(t)
	lower, upper := t.TempDir(), t.TempDir()
	err := apply(t, layer.Target{Dir: lower},
		entry("usr/", func(h *tar.Header) { h.Mode, h.Uid = 0o711, 9 }), entry("usr/bin/"), entry("usr/bin/sh", data("shell")),
		entry("gone", data("1")), entry("opaque/"), entry("opaque/x", data("2")))
	if err != nil {
		t.Fatal(err)
	}
	target := layer.Target{Dir: upper, Overlay: true, Lower: []string{lower}}
	err = apply(t, target,
		entry(".wh.gone"), entry("opaque/"), entry("opaque/.wh..wh..opq"), entry("opaque/y", data("3")),
		entry("usr/new", data("4")), entry("usr/bin/ash", hardlink("usr/bin/sh")), entry("mine", data("5")), entry(".wh.mine"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"gone dev 0:0", "mine = 5", "opaque/", "opaque/y = 3",
		"usr/", "usr/bin/", "usr/bin/ash = shell", "usr/bin/sh = shell", "usr/new = 4",
	}, "\n")
	if got := list(t, upper); got != want {
		t.Errorf("upper:\n%s\nwant:\n%s", got, want)
	}
	var st, sh, ash unix.Stat_t
	err = errors.Join(unix.Lstat(filepath.Join(upper, "usr"), &st),
		unix.Lstat(filepath.Join(upper, "usr/bin/sh"), &sh), unix.Lstat(filepath.Join(upper, "usr/bin/ash"), &ash))
	if err != nil || st.Mode&0o7777 != 0o711 || st.Uid != 9 {
		t.Errorf("usr is not like the lower one: %o of %d, %v", st.Mode, st.Uid, err)
	}
	if sh.Ino != ash.Ino {
		t.Error("the link to a lower file is a copy")
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(upper, "opaque"), "trusted.overlay.opaque", value); err != nil || string(value[:n]) != "y" {
		t.Errorf("opaque: %q, %v", value[:n], err)
	}
}

func TestApplySparse(t *testing.T) {
	needRoot(t)
	// An old GNU sparse header: 1 TiB claimed, no data.
	h := make([]byte, 512)
	copy(h, "huge")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        S")
	copy(h[257:], "ustar  \x00")
	h[483-1] = 0
	copy(h[483:], "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00") // real size, base 256
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	root := t.TempDir()
	err := layer.Apply(context.Background(), bytes.NewReader(append(h, make([]byte, 1024)...)), layer.Target{Dir: root})
	if !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a sparse file of 1 TiB: %v", err)
	}
}

func TestApplyCut(t *testing.T) {
	needRoot(t)
	tarball := pack(t, entry("a", data(strings.Repeat("x", 5000)))).Bytes()
	for _, n := range []int{100, 512, 3000} {
		err := layer.Apply(context.Background(), bytes.NewReader(tarball[:n]), layer.Target{Dir: t.TempDir()})
		if err == nil {
			t.Errorf("a tar cut at %d is applied", n)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := layer.Apply(ctx, bytes.NewReader(tarball), layer.Target{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzApply: whatever the tar says, nothing outside the root changes and nothing panics.
func FuzzApply(f *testing.F) {
	needRoot(f)
	outside := "../outside"
	f.Add(pack(f, entry("a/"), entry("a/b", data("x")), entry("c", symlink(outside)), entry("c/canary", data("y"))).Bytes())
	f.Add(pack(f, entry("h", hardlink(outside+"/canary")), entry("d/.wh.x"), entry("d/.wh..wh..opq")).Bytes())
	f.Add(pack(f, entry("l", symlink("/")), entry("l/etc/", kind(tar.TypeDir)), entry("l/../..", kind(tar.TypeDir))).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		for _, overlay := range []bool{false, true} {
			j := newJail(t)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			layer.Apply(ctx, bytes.NewReader(b), layer.Target{Dir: j.root, Overlay: overlay, Lower: []string{j.outside}}) //nolint:errcheck // only what it did counts
			cancel()
			j.check(t)
		}
	})
}
