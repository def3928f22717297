package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/daemon/archive"
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

// tree opens a directory as a container's root.
func tree(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	need.Root(t, "mounts a file system")
	r, err := rootfs.OpenWritable([]mount.Mount{{Type: "bind", Source: dir}})
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func write(t testing.TB, dir, name, body string) {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(body), 0o644))
}

// made is a tar of entries; what is regular has its name as content.
func made(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(h.Name))
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o755
		}
		check(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(w, h.Name)
			check(t, err)
		}
	}
	check(t, w.Close())
	return buf.Bytes()
}

func unpack(t testing.TB, in []byte, target archive.Target) error {
	t.Helper()
	return archive.Unpack(t.Context(), bytes.NewReader(in), target)
}

// names of a tar's entries.
func names(t testing.TB, in []byte) (out []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(in)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		check(t, err)
		out = append(out, h.Name)
	}
}

func pack(t testing.TB, r *rootfs.Root, name string) []byte {
	t.Helper()
	var buf bytes.Buffer
	check(t, archive.Pack(t.Context(), &buf, r, name))
	return buf.Bytes()
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"a": "/a", "/a/": "/a/", "/a/.": "/a/.", "a/b/..": "/a", "/": "/", ".": "/.", "/.": "/.", "../../x": "/x", "/a//b/./": "/a/b/./",
	} {
		if got := archive.Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestStat(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "d/file", "12345")
	check(t, os.Symlink("d/file", filepath.Join(dir, "link")))
	check(t, os.Symlink("d", filepath.Join(dir, "dirlink")))
	r := tree(t, dir)
	for _, row := range []struct {
		path, name, target string
		mode               os.FileMode
		err                string
	}{
		{path: "/d/file", name: "file", mode: 0},
		{path: "/d/", name: "d", mode: os.ModeDir},
		{path: "/d/.", name: ".", mode: os.ModeDir},
		{path: "/", name: "/", mode: os.ModeDir},
		{path: "/link", name: "link", mode: os.ModeSymlink, target: "/d/file"},
		{path: "/dirlink/", name: "dirlink", mode: os.ModeDir},
		{path: "/d/file/", err: "lstat /d/file/: not a directory"},
		{path: "/nope", err: "lstat /nope: no such file or directory"},
	} {
		st, err := archive.Stat(r, row.path)
		if row.err != "" {
			if err == nil || err.Error() != row.err {
				t.Errorf("%s: %v, want %s", row.path, err, row.err)
			}
			continue
		}
		if err != nil || st.Name != row.name || st.Mode.Type() != row.mode || st.LinkTarget != row.target {
			t.Errorf("%s: %+v, %v", row.path, st, err)
		}
	}
}

func TestPackNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "d/sub/file", "x")
	check(t, os.Symlink("d", filepath.Join(dir, "link")))
	r := tree(t, dir)
	for in, want := range map[string][]string{
		"/d": {"d/", "d/sub/", "d/sub/file"}, "/d/": {"d/", "d/sub/", "d/sub/file"}, "/d/.": {"./", "./sub/", "./sub/file"},
		"/d/sub/file": {"file"}, "/link": {"link"}, "/link/.": {"./", "./sub/", "./sub/file"},
		"/": {"/", "/d/", "/d/sub/", "/d/sub/file", "/link"},
	} {
		if got := names(t, pack(t, r, in)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	var all bytes.Buffer
	check(t, archive.PackAll(t.Context(), &all, r))
	if got := names(t, all.Bytes()); !slices.Equal(got, []string{"d/", "d/sub/", "d/sub/file", "link"}) {
		t.Errorf("all: %q", got)
	}
}

// TestRoundTrip keeps what a tar can hold.
func TestRoundTrip(t *testing.T) {
	need.Root(t, "makes devices and foreign owners")
	src, dst := t.TempDir(), t.TempDir()
	in := filepath.Join(src, "in")
	write(t, in, "sub/file", strings.Repeat("content ", 1<<18)) // in more than one piece
	write(t, in, "empty", "")
	file := filepath.Join(in, "sub/file")
	old := time.Unix(1000000000, 0)
	check(t, os.Link(file, filepath.Join(in, "sub/hard")))
	check(t, os.Symlink("sub/file", filepath.Join(in, "soft")))
	check(t, os.Lchown(filepath.Join(in, "soft"), 5, 6))
	check(t, unix.Mkfifo(filepath.Join(in, "fifo"), 0o640))
	check(t, unix.Mknod(filepath.Join(in, "null"), unix.S_IFCHR|0o606, int(unix.Mkdev(1, 3))))
	check(t, unix.Mknod(filepath.Join(in, "sock"), unix.S_IFSOCK|0o600, 0))
	check(t, os.Chown(file, 1, 2))
	check(t, unix.Chmod(file, 0o4751))
	caps := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	check(t, unix.Setxattr(filepath.Join(in, "empty"), "security.capability", caps, 0))
	check(t, os.Chown(in, 7, 8))
	check(t, unix.Chmod(in, 0o1770))
	for _, name := range []string{"sub/file", "sub", "empty", ""} {
		check(t, os.Chtimes(filepath.Join(in, name), old, old))
	}

	check(t, unpack(t, pack(t, tree(t, src), "/in"), archive.Target{Root: tree(t, dst), Dir: "/"}))
	for _, name := range []string{"", "sub", "sub/file", "sub/hard", "soft", "fifo", "null", "empty"} {
		var a, b unix.Stat_t
		check(t, unix.Lstat(filepath.Join(in, name), &a))
		if err := unix.Lstat(filepath.Join(dst, "in", name), &b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || a.Mtim.Sec != b.Mtim.Sec {
			t.Errorf("%q: mode %o owner %d:%d device %d time %d became %o %d:%d %d %d",
				name, a.Mode, a.Uid, a.Gid, a.Rdev, a.Mtim.Sec, b.Mode, b.Uid, b.Gid, b.Rdev, b.Mtim.Sec)
		}
	}
	a, errA := os.ReadFile(file)
	b, errB := os.ReadFile(filepath.Join(dst, "in/sub/hard"))
	if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
		t.Errorf("content of %d bytes became %d, %v", len(a), len(b), err)
	}
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(dst, "in/sub/hard"), &st))
	if st.Nlink != 2 {
		t.Errorf("hard link has %d names", st.Nlink)
	}
	var value [32]byte
	if n, err := unix.Getxattr(filepath.Join(dst, "in/empty"), "security.capability", value[:]); err != nil || !bytes.Equal(value[:n], caps) {
		t.Errorf("capability %x, %v", value[:max(n, 0)], err)
	}
	if _, err := os.Lstat(filepath.Join(dst, "in/sock")); !os.IsNotExist(err) {
		t.Errorf("socket: %v", err)
	}
}

func TestUnpackRules(t *testing.T) {
	const dirType, linkType, hardType = tar.TypeDir, tar.TypeSymlink, tar.TypeLink
	for _, row := range []struct {
		name string
		in   []tar.Header
		to   archive.Target
		err  string            // a part of it
		want map[string]string // content by path
	}{
		{name: "file over file", in: []tar.Header{{Name: "file"}}, want: map[string]string{"d/file": "file"}},
		{name: "parents are made", in: []tar.Header{{Name: "x/y/z"}}, want: map[string]string{"d/x/y/z": "x/y/z"}},
		{name: "file over directory", in: []tar.Header{{Name: "sub"}}, want: map[string]string{"d/sub": "sub"}},
		{name: "directory stays", in: []tar.Header{{Name: "sub", Typeflag: dirType}}, want: map[string]string{"d/sub/in": "old"}},
		{name: "kept kind, file", in: []tar.Header{{Name: "sub"}}, to: archive.Target{KeepKind: true},
			err: `cannot overwrite directory "/d/sub" with non-directory "/d"`, want: map[string]string{"d/sub/in": "old"}},
		{name: "kept kind, directory", in: []tar.Header{{Name: "file", Typeflag: dirType}}, to: archive.Target{KeepKind: true},
			err: `cannot overwrite non-directory "/d/file" with directory "/d"`, want: map[string]string{"d/file": "old"}},
		{name: "outside", in: []tar.Header{{Name: "../x"}}, err: `"../x" is outside of "/d"`},
		{name: "the parent", in: []tar.Header{{Name: "..", Typeflag: dirType}}, err: `".." is outside of "/d"`},
		{name: "through a link of the archive", in: []tar.Header{{Name: "l", Typeflag: linkType, Linkname: "/e"}, {Name: "l/x"}}, want: map[string]string{"e/x": "l/x"}},
		{name: "link outside", in: []tar.Header{{Name: "l", Typeflag: linkType, Linkname: "../../x"}}, err: `invalid symlink "/d/l" -> "../../x"`},
		{name: "hard link outside", in: []tar.Header{{Name: "l", Typeflag: hardType, Linkname: "../e/x"}}, err: `invalid hardlink "/e/x" -> "../e/x"`},
		{name: "hard link", in: []tar.Header{{Name: "a"}, {Name: "l", Typeflag: hardType, Linkname: "a"}}, want: map[string]string{"d/l": "a"}},
		{name: "hard link to nothing", in: []tar.Header{{Name: "l", Typeflag: hardType, Linkname: "a"}}, err: "link /d/a /d/l: no such file or directory"},
		{name: "root of the archive", in: []tar.Header{{Name: "./", Typeflag: dirType, Mode: 0o700}}},
		{name: "global header", in: []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}}, {Name: "a"}}, want: map[string]string{"d/a": "a"}},
		{name: "owner out of range", in: []tar.Header{{Name: "a", Uid: 1<<32 - 1, Format: tar.FormatPAX}}, err: "owner 4294967295:0 is out of range"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "d/file", "old")
			write(t, dir, "d/sub/in", "old")
			check(t, os.Mkdir(filepath.Join(dir, "e"), 0o755))
			row.to.Root, row.to.Dir = tree(t, dir), "/d"
			err := unpack(t, made(t, row.in...), row.to)
			if row.err == "" && err != nil || row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)) {
				t.Errorf("%v, want %q", err, row.err)
			}
			for name, want := range row.want {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v; want %q", name, got, err, want)
				}
			}
			if st, err := os.Stat(filepath.Join(dir, "d")); err != nil || st.Mode().Perm() != 0o755 {
				t.Errorf("the directory itself: %v, %v", st, err)
			}
		})
	}
}

func TestUnpackOwner(t *testing.T) {
	dir := t.TempDir()
	in := made(t, tar.Header{Name: "a", Uid: 1, Gid: 2}, tar.Header{Name: "d", Typeflag: tar.TypeDir, Uid: 1}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"})
	check(t, unpack(t, in, archive.Target{Root: tree(t, dir), Dir: "/", Owner: &archive.Owner{UID: 33, GID: 44}}))
	for _, name := range []string{"a", "d", "l"} {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(dir, name), &st))
		if st.Uid != 33 || st.Gid != 44 {
			t.Errorf("%s is %d:%d", name, st.Uid, st.Gid)
		}
	}
}

// TestUnpackMountPoint: the kernel would take away a mount of another namespace than
// the caller's with what it is on.
func TestUnpackMountPoint(t *testing.T) {
	dir, vol := t.TempDir(), t.TempDir()
	write(t, vol, "kept", "kept")
	check(t, os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755))
	r, err := tree(t, dir).Bind(t.Context(), []rootfs.Bind{{Source: vol, Destination: "/d/sub/vol", Writable: true}}, false)
	check(t, err)
	defer r.Close()
	for _, name := range []string{"d", "d/sub", "d/sub/vol"} {
		if err := unpack(t, made(t, tar.Header{Name: name}), archive.Target{Root: r, Dir: "/"}); !errors.Is(err, unix.EBUSY) {
			t.Errorf("replace %s: %v", name, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(vol, "kept")); err != nil || string(got) != "kept" {
		t.Errorf("volume: %q, %v", got, err)
	}
	if _, err := r.OpenInRoot("/d/sub/vol/kept", unix.O_PATH); err != nil {
		t.Errorf("mount: %v", err)
	}
}

func TestUnpackCutOff(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 5<<20)
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	check(t, w.WriteHeader(&tar.Header{Name: "big", Size: int64(len(body)), Mode: 0o644}))
	_, err := w.Write(body)
	check(t, err)
	check(t, w.Close())
	for _, at := range []int{100, 1000, 3 << 20} {
		err := unpack(t, in.Bytes()[:at], archive.Target{Root: tree(t, t.TempDir()), Dir: "/"})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	stop, calls := errors.New("stop"), 0
	err = unpack(t, in.Bytes(), archive.Target{Root: tree(t, t.TempDir()), Dir: "/", Go: func() error {
		if calls++; calls > 3 {
			return stop
		}
		return nil
	}})
	if !errors.Is(err, stop) {
		t.Errorf("told to stop: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := archive.Unpack(ctx, &in, archive.Target{Root: tree(t, t.TempDir()), Dir: "/"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestUnpackFull: a full file system ends the work, not the client's patience.
func TestUnpackFull(t *testing.T) {
	need.Root(t, "mounts a tmpfs")
	dir := t.TempDir()
	check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	defer unix.Unmount(dir, unix.MNT_DETACH)
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	check(t, w.WriteHeader(&tar.Header{Name: "big", Size: 64 << 20, Mode: 0o644}))
	_, err := w.Write(make([]byte, 64<<20))
	check(t, err)
	if err := unpack(t, in.Bytes(), archive.Target{Root: tree(t, dir), Dir: "/"}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("full: %v", err)
	}
	if in.Len() == 0 {
		t.Error("no input")
	}
}

func TestUnpackSparse(t *testing.T) {
	// GNU's old format, by hand: 1 GiB, with data in its last 512 bytes.
	const size, data = 1 << 30, 512
	h := make([]byte, 512)
	copy(h, "holes")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", data, 0))
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00", size-data, data))
	copy(h[483:], fmt.Sprintf("%011o\x00", size))
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	in := append(append(h, bytes.Repeat([]byte("d"), data)...), make([]byte, 1024)...)
	dir := t.TempDir()
	check(t, unpack(t, in, archive.Target{Root: tree(t, dir), Dir: "/"}))
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(dir, "holes"), &st))
	if st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	f, err := os.Open(filepath.Join(dir, "holes"))
	check(t, err)
	defer f.Close()
	end := make([]byte, data)
	if _, err := f.ReadAt(end, size-data); err != nil || !bytes.Equal(end, bytes.Repeat([]byte("d"), data)) {
		t.Errorf("data %q, %v", end[:8], err)
	}
}
