package diff_test

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

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	corediff "gantry/libctr/core/diff"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/diff"
	"gantry/libctr/metadata"
	"gantry/libctr/mount"
	"gantry/libctr/snapshot/overlay"
)

// bench is a store, a snapshotter and a differ.
type bench struct {
	*testing.T
	ctx   context.Context
	store corecontent.Store
	snaps snapshot.Snapshotter
	*diff.Differ
	strict bool // entries must have the headers of change
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts overlays")
	}
	root := t.TempDir()
	b := &bench{T: t, ctx: reqctx.WithNamespace(t.Context(), "testing")}
	blobs, err := content.New(filepath.Join(root, "content"))
	b.must(err)
	snaps, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{NoSync: true})
	b.must(err)
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.Options{
		Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps},
	})
	b.must(err)
	t.Cleanup(func() { db.Close(); snaps.Close() })
	b.store, b.snaps = db.Content(), db.Snapshotter("overlayfs")
	b.Differ = diff.New(b.store)
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) blob(mediaType string, p []byte) ocispec.Descriptor {
	b.Helper()
	return ocispec.Descriptor{MediaType: mediaType, Digest: contenttest.Write(b.T, b.ctx, b.store, p, nil), Size: int64(len(p))}
}

func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[name]) //nolint:errcheck // to memory
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), make([]byte, 10240)...) // a tape block's padding counts for the diff id
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func gzipped(t *testing.T, p []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return buf.Bytes()
}

func zstded(t *testing.T, p []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(p, nil)
}

// seen reads the regular files that mounts show.
func (b *bench) seen(mounts []coremount.Mount) map[string]string {
	b.Helper()
	out := make(map[string]string)
	b.must(mount.WithTemp(b.ctx, mount.ReadOnly(mounts), func(root string) error {
		return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			p, err := os.ReadFile(path)
			rel, _ := filepath.Rel(root, path)
			out[rel] = string(p)
			return err
		})
	}))
	return out
}

func TestApply(t *testing.T) {
	b := newBench(t)
	one := tarOf(t, map[string]string{"a": "1", "dir/b": strings.Repeat("x", 3<<20)})
	two := tarOf(t, map[string]string{".wh.a": "", "dir/c": "3"})
	type step struct {
		mediaType string
		data      []byte
	}
	for name, steps := range map[string][2]step{
		"plain":  {{ocispec.MediaTypeImageLayer, one}, {ocispec.MediaTypeImageLayer, two}},
		"gzip":   {{ocispec.MediaTypeImageLayerGzip, gzipped(t, one)}, {"application/vnd.docker.image.rootfs.diff.tar.gzip", gzipped(t, two)}},
		"zstd":   {{ocispec.MediaTypeImageLayerZstd, zstded(t, one)}, {"application/vnd.docker.image.rootfs.diff.tar.zstd", zstded(t, two)}},
		"docker": {{"application/vnd.docker.image.rootfs.diff.tar", one}, {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", gzipped(t, two)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{t, b.ctx, b.store, b.snaps, b.Differ, false}
			parent := ""
			for i, s := range steps {
				key := fmt.Sprint(name, i)
				mounts, err := b.snaps.Prepare(b.ctx, key+"-x", parent, nil)
				b.must(err)
				got, err := b.Apply(b.ctx, b.maybe(s.mediaType, s.data), mounts, corediff.ApplyOptions{})
				b.must(err)
				plain := [][]byte{one, two}[i]
				if got.Digest != digest.FromBytes(plain) || got.Size != int64(len(plain)) || got.MediaType != ocispec.MediaTypeImageLayer {
					t.Errorf("applied %+v, want %v", got, digest.FromBytes(plain))
				}
				b.must(b.snaps.Commit(b.ctx, key, key+"-x", nil))
				parent = key
			}
			mounts, err := b.snaps.View(b.ctx, name+"-view", parent, nil)
			b.must(err)
			seen := b.seen(mounts)
			if len(seen) != 2 || seen["dir/c"] != "3" || len(seen["dir/b"]) != 3<<20 {
				t.Errorf("seen %d files", len(seen))
			}
		})
	}
}

// maybe writes a blob that may be there.
func (b *bench) maybe(mediaType string, p []byte) ocispec.Descriptor {
	d := digest.FromBytes(p)
	if _, err := b.store.Info(b.ctx, d); err == nil {
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(p))}
	}
	return b.blob(mediaType, p)
}

func TestApplyRefuses(t *testing.T) {
	b := newBench(t)
	mounts, err := b.snaps.Prepare(b.ctx, "x", "", nil)
	b.must(err)
	good := tarOf(t, map[string]string{"a": "1"})
	packed := gzipped(t, good)
	for _, tc := range []struct {
		name  string
		desc  ocispec.Descriptor
		class error
	}{
		{"a config", b.maybe(ocispec.MediaTypeImageConfig, good), errdefs.ErrNotImplemented},
		{"an encrypted layer", b.maybe(ocispec.MediaTypeImageLayer+"+encrypted", good), errdefs.ErrNotImplemented},
		{"no tar", b.maybe(ocispec.MediaTypeImageLayer, []byte(strings.Repeat("no tar", 200))), errdefs.ErrInvalidArgument},
		{"cut gzip", b.maybe(ocispec.MediaTypeImageLayerGzip, packed[:len(packed)-20]), nil},
		{"nothing there", ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("?")}, errdefs.ErrNotFound},
	} {
		_, err := b.Apply(b.ctx, tc.desc, mounts, corediff.ApplyOptions{})
		if err == nil || tc.class != nil && !errors.Is(err, tc.class) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.class)
		}
	}
	view, err := b.snaps.View(b.ctx, "v", "", nil)
	b.must(err)
	if _, err := b.Apply(b.ctx, b.maybe(ocispec.MediaTypeImageLayer, good), view, corediff.ApplyOptions{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("onto a view: %v", err)
	}
}

// change makes a state that has every kind of change against what base made.
func base(root string) error {
	return errors.Join(
		os.MkdirAll(filepath.Join(root, "dir/sub"), 0o755), os.Mkdir(filepath.Join(root, "replaced"), 0o755),
		write(root, "keep", "k"), write(root, "edit", "before"), write(root, "gone", "g"), write(root, "dir/sub/x", "x"),
		write(root, "replaced/old", "o"), write(root, "mode", "m"), write(root, "todir", "f"), os.Symlink("keep", filepath.Join(root, "link")),
	)
}

func change(root string) error {
	at := func(name string) string { return filepath.Join(root, name) }
	return errors.Join(
		write(root, "edit", "after!"), os.Remove(at("gone")), os.RemoveAll(at("replaced")), os.Mkdir(at("replaced"), 0o700),
		write(root, "replaced/new", "n"), os.Chmod(at("mode"), 0o755|os.ModeSetuid), os.Remove(at("todir")), os.Mkdir(at("todir"), 0o755),
		write(root, "todir/in", "i"), os.Remove(at("link")), os.Symlink("edit", at("link")), write(root, "new", "n"),
		os.Link(at("new"), at("same")), unix.Mkfifo(at("fifo"), 0o600), unix.Setxattr(at("new"), "user.note", []byte("hi"), 0),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), write(root, "dir/sub/y", "y"),
		os.Lchown(at("link"), 5, 6),
	)
}

func write(root, name, text string) error {
	path := filepath.Join(root, name)
	return errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)))
}

var wantChanges = []string{
	"dir/", "dir/sub/", "dir/sub/y", "edit", "fifo", ".wh.gone", "link", "mode", "new", "null", "replaced/",
	"replaced/.wh..wh..opq", "replaced/new", "same = new", "todir/", "todir/in",
}

var wantHeader = map[string]func(*tar.Header) bool{
	"mode": func(h *tar.Header) bool { return h.Mode == 0o4755 },
	"link": func(h *tar.Header) bool { return h.Uid == 5 && h.Linkname == "edit" },
	"new":  func(h *tar.Header) bool { return h.PAXRecords["SCHILY.xattr.user.note"] == "hi" },
	"null": func(h *tar.Header) bool { return h.Devmajor == 1 && h.Devminor == 3 },
}

func TestCompare(t *testing.T) {
	for _, parents := range []int{1, 2} { // the view is a bind, or an overlay
		t.Run(fmt.Sprint(parents, " parents"), func(t *testing.T) { testCompare(t, parents) })
	}
}

func testCompare(t *testing.T, parents int) {
	b := newBench(t)
	b.strict = true
	parent := ""
	for i := range parents {
		key := fmt.Sprint("base", i)
		mounts, err := b.snaps.Prepare(b.ctx, "x", parent, nil)
		b.must(err)
		if i == parents-1 {
			b.mounted(mounts, base)
		}
		b.must(b.snaps.Commit(b.ctx, key, "x", nil))
		parent = key
	}
	upper, err := b.snaps.Prepare(b.ctx, "upper", parent, nil)
	b.must(err)
	lower, err := b.snaps.View(b.ctx, "lower", parent, nil)
	b.must(err)
	b.mounted(upper, change)

	fast, err := b.Compare(b.ctx, lower, upper, corediff.CompareOptions{MediaType: ocispec.MediaTypeImageLayer, Labels: map[string]string{"l": "1"}})
	b.must(err)
	if got := b.entries(fast); !slices.Equal(got, wantChanges) {
		t.Errorf("by the upper directory:\n%v, want\n%v", got, wantChanges)
	}
	// Mounted by hand, nobody knows that it is an overlay: both trees are walked.
	dir := t.TempDir()
	b.must(mount.All(mount.ReadOnly(upper), dir))
	defer mount.Unmount(dir) //nolint:errcheck // the test ends
	slow, err := b.Compare(b.ctx, lower, []coremount.Mount{{Type: "bind", Source: dir, Options: []string{"rbind"}}}, corediff.CompareOptions{MediaType: ocispec.MediaTypeImageLayer})
	b.must(err)
	want := slices.DeleteFunc(slices.Clone(wantChanges), func(s string) bool { return s == "replaced/.wh..wh..opq" })
	want = slices.Insert(want, slices.Index(want, "replaced/new")+1, "replaced/.wh.old")
	if got := b.entries(slow); !slices.Equal(got, want) {
		t.Errorf("by both trees:\n%v, want\n%v", got, want)
	}

	info, err := b.store.Info(b.ctx, fast.Digest)
	b.must(err)
	if info.Labels["containerd.io/uncompressed"] != fast.Digest.String() || info.Labels["l"] != "1" {
		t.Errorf("labels %v", info.Labels)
	}
	b.sameAgain(lower, upper, fast)
	for i, desc := range []ocispec.Descriptor{fast, slow} {
		b.roundTrip(fmt.Sprint("trip", i), parent, desc, upper)
	}
}

// sameAgain compares once more, also compressed: the tar is the same.
func (b *bench) sameAgain(lower, upper []coremount.Mount, want ocispec.Descriptor) {
	b.Helper()
	for _, mediaType := range []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd} {
		got, err := b.Compare(b.ctx, lower, upper, corediff.CompareOptions{MediaType: mediaType, Reference: "mine"})
		b.must(err)
		info, err := b.store.Info(b.ctx, got.Digest)
		b.must(err)
		if info.Labels["containerd.io/uncompressed"] != want.Digest.String() || got.Size != info.Size || got.MediaType != mediaType {
			b.Errorf("%s: %+v of %v, want %v inside", mediaType, got, info.Labels, want.Digest)
		}
	}
	left, err := b.store.ListStatuses(b.ctx)
	b.must(err)
	if len(left) != 0 {
		b.Errorf("ingests left: %v", left)
	}
}

// roundTrip applies the layer onto the parent: the result is the upper tree.
func (b *bench) roundTrip(key, parent string, desc ocispec.Descriptor, upper []coremount.Mount) {
	b.Helper()
	mounts, err := b.snaps.Prepare(b.ctx, key, parent, nil)
	b.must(err)
	_, err = b.Apply(b.ctx, desc, mounts, corediff.ApplyOptions{})
	b.must(err)
	got, want := b.seen(mounts), b.seen(upper)
	for name, text := range want {
		if got[name] != text {
			b.Errorf("%s: %s is %q, want %q", key, name, got[name], text)
		}
	}
	if len(got) != len(want) {
		b.Errorf("%s: files %v, want %v", key, slices.Sorted(keys(got)), slices.Sorted(keys(want)))
	}
}

func (b *bench) mounted(mounts []coremount.Mount, fn func(root string) error) {
	b.Helper()
	b.must(mount.WithTemp(b.ctx, mounts, fn))
}

// entries lists the names of a layer, hard links with what they lead to.
func (b *bench) entries(desc ocispec.Descriptor) (names []string) {
	b.Helper()
	ra, err := b.store.ReaderAt(b.ctx, desc)
	b.must(err)
	defer ra.Close()
	tr := tar.NewReader(io.NewSectionReader(ra, 0, ra.Size()))
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		b.must(err)
		name := hdr.Name
		if hdr.Typeflag == tar.TypeLink {
			name += " = " + hdr.Linkname
		}
		if check := wantHeader[name]; check != nil && b.strict && !check(hdr) {
			b.Errorf("%s: %+v", name, hdr)
		}
		names = append(names, name)
	}
}

func TestCompareWithNothing(t *testing.T) {
	b := newBench(t)
	upper, err := b.snaps.Prepare(b.ctx, "x", "", nil)
	b.must(err)
	b.mounted(upper, base)
	desc, err := b.Compare(b.ctx, nil, upper, corediff.CompareOptions{MediaType: ocispec.MediaTypeImageLayer})
	b.must(err)
	if got := b.entries(desc); len(got) != 11 {
		t.Errorf("entries %v", got)
	}
}
