package unpack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/internal/testutil/coretest"
	"gantry/libctr/core/content"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/unpack"
)

const name = "overlayfs"

// core is a core under test, and a context under a lease of it.
type core struct {
	*testing.T
	ctx     context.Context
	content content.Store
	snaps   snapshot.Snapshotter
	applier diff.Applier
}

func ours(t *testing.T) core {
	c := coretest.Start(t)
	return newCore(t, c.Content(), c.Snapshotter(name), c.Differ(), c.Leases())
}

func newCore(t *testing.T, content content.Store, snaps snapshot.Snapshotter, applier diff.Applier, leases lease.Manager) core {
	l, err := leases.Create(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return core{T: t, ctx: lease.With(t.Context(), l.ID), content: content, snaps: snaps, applier: applier}
}

func (c core) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c core) unpacker(rebase bool) *unpack.Unpacker {
	return unpack.New(unpack.Config{
		Content: c.content, Snapshotter: c.snaps, Name: name, Applier: c.applier, Parallel: 3, Rebase: rebase,
	})
}

func (c core) layer(plain []byte) unpack.Layer { c.Helper(); return pack(c, c.ctx, c.content, plain) }

// pack stores a tar, packed, and describes it.
func pack(t testing.TB, ctx context.Context, store content.Store, plain []byte) unpack.Layer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(plain)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}
	w, err := store.Writer(ctx, content.WriterOptions{Ref: desc.Digest.String(), Desc: desc})
	if errdefs.IsAlreadyExists(err) {
		return unpack.Layer{Desc: desc, DiffID: digest.FromBytes(plain)}
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, &b)
	if err := errors.Join(err, w.Commit(ctx, desc.Size, desc.Digest, nil)); err != nil {
		t.Fatal(err)
	}
	return unpack.Layer{Desc: desc, DiffID: digest.FromBytes(plain)}
}

// entries makes a tar; what an entry leaves out is that of an ordinary file.
func entries(t *testing.T, hdrs ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range hdrs {
		body := h.Uname // stands for the data
		h.Uname = ""
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			h.Size = int64(len(body))
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_000_000_000, 0)
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, body[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// twisted are layers that lean on what is below them in every way there is.
func twisted(t *testing.T) [][]byte {
	dir := func(name string, mode int64, uid int) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: uid,
			ModTime: time.Unix(900_000_000+int64(uid), 0), PAXRecords: map[string]string{"SCHILY.xattr.user.of": name}}
	}
	file := func(name, data string) tar.Header { return tar.Header{Name: name, Uname: data} }
	return [][]byte{
		entries(t, dir("d", 0o700, 5), dir("d/deep", 0o711, 6), dir("e", 0o755, 0), file("e/1", "1"), file("e/2", "2"),
			file("f", "f"), dir("g", 0o750, 7), dir("g/sub", 0o701, 8), file("g/sub/x", "x"), file("h", "hard"),
			dir("i", 0o755, 9), file("i/old", "o"), tar.Header{Name: "lnk", Typeflag: tar.TypeSymlink, Linkname: "d", Mode: 0o777}),
		// Directories that only the layer below announces; deletions of what is there only.
		entries(t, file("d/deep/new", "new"), file(".wh.f", ""), file("e/.wh..wh..opq", ""), file("e/3", "3")),
		// Deleted and made again: nothing of the old shows through.
		entries(t, file("g/.wh.sub", ""), dir("g/sub", 0o755, 1), file("g/sub/y", "y"),
			file(".wh.i", ""), file("i/new", "n")),
		// A link to what only a layer below has: such a layer must be applied on its parent.
		entries(t, tar.Header{Name: "h2", Typeflag: tar.TypeLink, Linkname: "h"}, file("d/deep/again", "a")),
		entries(t, dir("./", 0o711, 3)),
		entries(t),
		entries(t, file("d/late", "l"), dir("d", 0o770, 2)),
	}
}

func (c core) layers(plain [][]byte) (out []unpack.Layer) {
	c.Helper()
	for _, p := range plain {
		out = append(out, c.layer(p))
	}
	return out
}

// tree describes all that a snapshot shows.
func (c core) tree(chain digest.Digest) string {
	c.Helper()
	mounts, err := c.snaps.View(c.ctx, "view-"+chain.String(), chain.String(), nil)
	c.must(err)
	root := c.TempDir()
	c.must(mountAt(mounts, root))
	defer func() { c.must(unix.Unmount(root, 0)) }()
	var b strings.Builder
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		c.must(unix.Lstat(path, &st))
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(&b, "%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if st.Mtim.Sec < 1<<30 { // else made up
			fmt.Fprintf(&b, " %d", st.Mtim.Sec)
		}
		value := make([]byte, 64)
		if n, err := unix.Lgetxattr(path, "user.of", value); err == nil {
			fmt.Fprintf(&b, " %s", value[:n])
		}
		if n, err := unix.Lgetxattr(path, "trusted.gantry.implied", value); err == nil && rel != "." {
			fmt.Fprintf(&b, " marked %v", value[:n])
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			c.must(err)
			fmt.Fprintf(&b, " %d %q", st.Nlink, data)
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			c.must(err)
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')
		return nil
	})
	c.must(err)
	return b.String()
}

func mountAt(mounts []mount.Mount, target string) error {
	m := mounts[0]
	if m.Type == "bind" {
		return unix.Mount(m.Source, target, "", unix.MS_BIND, "")
	}
	return unix.Mount(m.Source, target, m.Type, unix.MS_RDONLY, strings.Join(m.Options, ","))
}

func TestParallelIsSerial(t *testing.T) {
	plain := twisted(t)
	serial, parallel := ours(t), ours(t)
	a, err := serial.unpacker(false).Unpack(serial.ctx, serial.layers(plain), nil)
	serial.must(err)
	b, err := parallel.unpacker(true).Unpack(parallel.ctx, parallel.layers(plain), nil)
	parallel.must(err)
	if a != b {
		t.Fatalf("chain ids %s and %s", a, b)
	}
	want, got := serial.tree(a), parallel.tree(b)
	if want != got {
		t.Errorf("one layer after the other:\n%s\nat the same time:\n%s", want, got)
	}
	for _, line := range []string{
		". 40711 3:3", "d 40770 2:2 900000002 d", "d/deep 40711 6:6 900000006 d/deep", "e 40755 0:0", "e/3 ",
		"g 40750 7:7 900000007 g", "g/sub 40755 1:1 900000001 g/sub", "g/sub/y ", "i 40755 0:0", "i/new ", `h2 100644 0:0 1000000000 2 "hard"`,
	} {
		if !strings.Contains("\n"+got, "\n"+line) {
			t.Errorf("there is no line %q in\n%s", line, got)
		}
	}
	for _, gone := range []string{"\nf ", "\ne/1 ", "\ng/sub/x ", "\ni/old ", "marked"} {
		if strings.Contains(got, gone) {
			t.Errorf("there is %q in\n%s", gone, got)
		}
	}
}

func TestNamesAndLabels(t *testing.T) {
	c := ours(t)
	layers := c.layers(twisted(t)[:2])
	layers[1].Desc.Annotations = map[string]string{
		"containerd.io/snapshot/x": "y", "containerd.io/snapshot/uidmapping": "0:1:1", "other": "z",
	}
	u := c.unpacker(true)
	chain, err := u.Unpack(c.ctx, layers, map[string]string{"of": "the caller"})
	c.must(err)
	i, err := c.snaps.Stat(c.ctx, chain.String())
	c.must(err)
	want := map[string]string{"containerd.io/snapshot.ref": chain.String(), "containerd.io/snapshot/diff-id": layers[1].DiffID.String(),
		"containerd.io/snapshot/parent-chain-id": layers[0].DiffID.String(), "containerd.io/snapshot/x": "y", "of": "the caller"}
	if i.Parent != layers[0].DiffID.String() || fmt.Sprint(i.Labels) != fmt.Sprint(want) {
		t.Errorf("snapshot %+v, want labels %v", i, want)
	}
	info, err := c.content.Info(c.ctx, layers[1].Desc.Digest)
	c.must(err)
	if info.Labels["containerd.io/uncompressed"] != layers[1].DiffID.String() {
		t.Errorf("labels of the blob are %v", info.Labels)
	}
	c.must(u.Tie(c.ctx, layers[0].Desc.Digest, chain))
	info, err = c.content.Info(c.ctx, layers[0].Desc.Digest)
	c.must(err)
	if info.Labels["containerd.io/gc.ref.snapshot.overlayfs"] != chain.String() {
		t.Errorf("labels of what was tied are %v", info.Labels)
	}
}

// counting counts the layers that are applied.
type counting struct {
	diff.Applier
	n atomic.Int32
}

func (a *counting) Apply(ctx context.Context, d ocispec.Descriptor, m []mount.Mount, o diff.ApplyOptions) (ocispec.Descriptor, error) {
	a.n.Add(1)
	return a.Applier.Apply(ctx, d, m, o)
}

func TestSharedLayersOnce(t *testing.T) {
	for _, rebase := range []bool{false, true} {
		t.Run(fmt.Sprint(rebase), func(t *testing.T) {
			c := ours(t)
			counted := &counting{Applier: c.applier}
			c.applier = counted
			u := c.unpacker(rebase)
			layers := c.layers([][]byte{
				entries(t, tar.Header{Name: "a"}), entries(t, tar.Header{Name: "b"}), entries(t, tar.Header{Name: "c"}),
				entries(t, tar.Header{Name: "d"}), entries(t, tar.Header{Name: "e"}),
			})
			images := [][]unpack.Layer{layers[:4], {layers[0], layers[1], layers[4]}, layers[:2], layers[:4]}
			var wg sync.WaitGroup
			for _, image := range images {
				wg.Go(func() {
					if _, err := u.Unpack(c.ctx, image, nil); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := counted.n.Load(); n != 5 {
				t.Errorf("%d layers were applied, there are 5", n)
			}
			done := 0
			for i := range layers[:4] {
				layers[i].Ready = make(chan error) // never asked
				layers[i].Done = func() { done++ }
			}
			if _, err := u.Unpack(c.ctx, layers[:4], nil); err != nil || counted.n.Load() != 5 || done != 4 {
				t.Errorf("again: %v, applied %d, done %d", err, counted.n.Load(), done)
			}
		})
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	for _, rebase := range []bool{false, true} {
		t.Run(fmt.Sprint(rebase), func(t *testing.T) {
			c := ours(t)
			layers := c.layers([][]byte{entries(t, tar.Header{Name: "a"}), entries(t, tar.Header{Name: "b"}), entries(t, tar.Header{Name: "c"})})
			layers[1].DiffID = digest.FromString("another")
			_, err := c.unpacker(rebase).Unpack(c.ctx, layers, nil)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), layers[1].Desc.Digest.String()) {
				t.Errorf("a wrong diff id: %v", err)
			}
			c.must(c.snaps.Walk(c.ctx, func(i snapshot.Info) error {
				if i.Name != layers[0].DiffID.String() {
					t.Errorf("there is %+v", i)
				}
				return nil
			}))
			layers[1].DiffID = "x"
			if _, err := c.unpacker(rebase).Unpack(c.ctx, layers, nil); !errdefs.IsInvalidArgument(err) {
				t.Errorf("no diff id: %v", err)
			}
		})
	}
}

func TestReady(t *testing.T) {
	c := ours(t)
	layers := c.layers([][]byte{entries(t, tar.Header{Name: "a"}), entries(t, tar.Header{Name: "b"})})
	first := make(chan error)
	began := make(chan int, 2)
	for i := range layers {
		layers[i].Began = func() { began <- i }
	}
	layers[0].Ready = first
	done := make(chan error, 1)
	go func() {
		_, err := c.unpacker(true).Unpack(c.ctx, layers, nil)
		done <- err
	}()
	if i := <-began; i != 1 {
		t.Errorf("layer %d is applied while layer 0 is being fetched", i)
	}
	close(first)
	c.must(<-done)

	failed := make(chan error, 1)
	failed <- errdefs.Unavailable("the registry is away")
	other := c.layer(entries(t, tar.Header{Name: "c"}))
	other.Ready = failed
	if _, err := c.unpacker(true).Unpack(c.ctx, []unpack.Layer{other}, nil); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a fetch that failed: %v", err)
	}
}

// TestContainerd unpacks on a real containerd, which does not rebase.
func TestContainerd(t *testing.T) {
	client := coretest.Containerd(t)
	theirs := newCore(t, client.Content(), client.Snapshotter(name), client.Differ(), client.Leases())
	mine := ours(t)
	plain := twisted(t)
	plain = append(plain[:2:2], plain[5]) // it has its own mind about the others
	a, err := theirs.unpacker(false).Unpack(theirs.ctx, theirs.layers(plain), nil)
	theirs.must(err)
	b, err := mine.unpacker(true).Unpack(mine.ctx, mine.layers(plain), nil)
	mine.must(err)
	// It lets the times of directories go that a layer has only entries below of.
	ours := strings.NewReplacer(" 900000005 d\n", " d\n", " 900000006 d/deep\n", " d/deep\n", " 900000000 e\n", " e\n")
	if want, got := theirs.tree(a), ours.Replace(mine.tree(b)); want != got {
		t.Errorf("containerd's:\n%s\nours:\n%s", want, got)
	}
}
