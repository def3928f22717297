package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
)

// blob stores a blob that no lease holds and returns its digest.
func (c *core) blob(t *testing.T, ctx context.Context, seed uint64, labels map[string]string) digest.Digest {
	t.Helper()
	p, _ := contenttest.Blob(seed, 16)
	return contenttest.Write(t, ctx, c.Content(), p, labels)
}

func (c *core) collect(t *testing.T) metadata.Stats {
	t.Helper()
	stats, err := c.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// there lists what is left: blobs by digest, snapshots by key, images and leases.
func (c *core) there(t *testing.T, ctx context.Context) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	err := c.Content().Walk(ctx, func(i corecontent.Info) error {
		out["content "+i.Digest.String()] = true
		return nil
	})
	err = errors.Join(err, c.Snapshotter("overlayfs").Walk(ctx, func(i snapshot.Info) error {
		out["snapshot "+i.Name] = true
		return nil
	}))
	images, ierr := c.Images().List(ctx)
	for _, i := range images {
		out["image "+i.Name] = true
	}
	leases, lerr := c.Leases().List(ctx)
	for _, l := range leases {
		out["lease "+l.ID] = true
	}
	if err = errors.Join(err, ierr, lerr); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCollectReferences(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	layerBlob := c.blob(t, ctx, 1, nil)
	config := c.blob(t, ctx, 2, map[string]string{"containerd.io/gc.ref.snapshot.overlayfs": "chain"})
	manifest := c.blob(t, ctx, 3, map[string]string{
		"containerd.io/gc.ref.content.config": config.String(), "containerd.io/gc.ref.content.l.0": layerBlob.String(),
	})
	rooted := c.blob(t, ctx, 4, map[string]string{"containerd.io/gc.root": "x"})
	loose := c.blob(t, ctx, 5, nil)
	back := c.blob(t, ctx, 6, map[string]string{"containerd.io/gc.bref.image": "i"})
	for _, s := range []struct{ name, parent string }{{"base", ""}, {"chain", "base"}, {"loose", "base"}} {
		if _, err := c.Snapshotter("overlayfs").Prepare(ctx, "x", s.parent, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.Snapshotter("overlayfs").Commit(ctx, s.name, "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	target := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: manifest, Size: 16}
	if _, err := c.Images().Create(ctx, image.Image{Name: "i", Target: target}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Snapshotter("overlayfs").Prepare(ctx, "running", "chain", nil); err != nil {
		t.Fatal(err)
	}
	record := metadatatest.Container("c")
	record.SnapshotKey = "running"
	if _, err := c.Containers().Create(ctx, record); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{
		"content " + layerBlob.String(): true, "content " + config.String(): true, "content " + manifest.String(): true,
		"content " + rooted.String(): true, "content " + back.String(): true,
		"snapshot base": true, "snapshot chain": true, "snapshot running": true, "image i": true,
	}
	if stats := c.collect(t); stats.Removed != 2 {
		t.Errorf("removed %d, want the loose blob and snapshot", stats.Removed)
	}
	if got := c.there(t, ctx); !maps.Equal(got, want) {
		t.Errorf("left %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if _, err := c.blobs.Info(ctx, loose); !errdefs.IsNotFound(err) {
		t.Errorf("the loose blob is still in the backend: %v", err)
	}

	// A synchronous delete has collected when it returns: the container keeps its snapshots.
	if err := c.Images().Delete(ctx, "i", true, nil); err != nil {
		t.Fatal(err)
	}
	want = map[string]bool{"content " + rooted.String(): true, "snapshot base": true, "snapshot chain": true, "snapshot running": true}
	if got := c.there(t, ctx); !maps.Equal(got, want) {
		t.Errorf("left %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if err := c.Containers().Delete(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	c.collect(t)
	if got := c.there(t, ctx); len(got) != 1 {
		t.Errorf("left %v", got)
	}
	if dirs, err := os.ReadDir(filepath.Join(c.root, "overlayfs", "snapshots")); err != nil || len(dirs) != 0 {
		t.Errorf("snapshot directories left: %v, %v", dirs, err)
	}
}

func TestCollectExpiry(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	expire := map[string]string{"containerd.io/gc.expire": c.now.Add(time.Hour).UTC().Format(time.RFC3339)}
	for id, labels := range map[string]map[string]string{"expires": expire, "stays": nil, "odd": {"containerd.io/gc.expire": "soon"}} {
		if _, err := c.Leases().Create(ctx, id, labels); err != nil {
			t.Fatal(err)
		}
		c.blob(t, lease.With(ctx, id), uint64(len(id)), nil)
	}
	target := metadatatest.Target("nothing")
	if _, err := c.Images().Create(ctx, image.Image{Name: "old", Target: target, Labels: expire}); err != nil {
		t.Fatal(err)
	}
	c.collect(t)
	if got := c.there(t, ctx); len(got) != 7 {
		t.Errorf("before: %v", got)
	}
	c.now = c.now.Add(2 * time.Hour)
	c.collect(t)
	got := c.there(t, ctx)
	if len(got) != 4 || got["lease expires"] || got["image old"] {
		t.Errorf("after: %v", slices.Sorted(maps.Keys(got)))
	}
}

func TestCollectFlatLease(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	leaf := c.blob(t, ctx, 1, nil)
	top := c.blob(t, ctx, 2, map[string]string{"containerd.io/gc.ref.content": leaf.String()})
	for _, s := range []struct{ name, parent string }{{"a", ""}, {"b", "a"}} {
		if _, err := c.Snapshotter("overlayfs").Prepare(ctx, "x", s.parent, nil); err != nil {
			t.Fatal(err)
		}
		labels := map[string]string{"containerd.io/gc.ref.content": leaf.String()}
		if err := c.Snapshotter("overlayfs").Commit(ctx, s.name, "x", labels); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Leases().Create(ctx, "flat", map[string]string{"containerd.io/gc.flat": "1"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []lease.Resource{{Type: "content", ID: top.String()}, {Type: "snapshots/overlayfs", ID: "b"}} {
		if err := c.Leases().AddResource(ctx, "flat", r); err != nil {
			t.Fatal(err)
		}
	}
	c.collect(t)
	want := map[string]bool{"lease flat": true, "content " + top.String(): true, "snapshot a": true, "snapshot b": true}
	if got := c.there(t, ctx); !maps.Equal(got, want) {
		t.Errorf("left %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestNamespacesShareBlobs(t *testing.T) {
	c := open(t)
	one, two := in(t, "one"), in(t, "two")
	root := map[string]string{"containerd.io/gc.root": "x"}
	d := c.blob(t, one, 1, root)
	if _, err := c.Content().Info(two, d); !errdefs.IsNotFound(err) {
		t.Errorf("another namespace sees it: %v", err)
	}
	// Whoever knows digest and size need not send it again.
	if _, err := c.Leases().Create(two, "l", nil); err != nil {
		t.Fatal(err)
	}
	w, err := c.Content().Writer(lease.With(two, "l"), corecontent.WriterOptions{Ref: "r", Desc: ocispec.Descriptor{Digest: d, Size: 16}})
	if err != nil {
		t.Fatalf("writer: %v", err)
	}
	if st, err := w.Status(); err != nil || st.Offset != 16 {
		t.Fatalf("status %+v, %v", st, err)
	}
	// Until it is committed it is nobody's but the first one's, and stays all the same.
	if _, err := c.Content().Info(two, d); !errdefs.IsNotFound(err) {
		t.Errorf("there before its commit: %v", err)
	}
	if err := c.Content().Delete(one, d); err != nil {
		t.Fatal(err)
	}
	c.collect(t)
	if err := w.Commit(two, 16, d, map[string]string{"of": "two"}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if info, err := c.Content().Info(two, d); err != nil || info.Labels["of"] != "two" || info.Size != 16 {
		t.Errorf("shared: %+v, %v", info, err)
	}
	c.collect(t)
	if _, err := c.Content().ReaderAt(two, ocispec.Descriptor{Digest: d}); err != nil {
		t.Errorf("the other's delete took it: %v", err)
	}
	if err := c.Leases().Delete(two, "l", true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.blobs.Info(one, d); !errdefs.IsNotFound(err) {
		t.Errorf("the last delete left it: %v", err)
	}
	// With the wrong size announced it is not the same blob.
	d = c.blob(t, one, 2, root)
	w, err = c.Content().Writer(two, corecontent.WriterOptions{Ref: "r", Desc: ocispec.Descriptor{Digest: d, Size: 15}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p, _ := contenttest.Blob(2, 16)
	if _, err := w.Write(p[:15]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(two, 15, "", nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("commit: %v", err)
	}
}

func TestCollectTakesWhatACrashLeft(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	p, desc := contenttest.Blob(1, 10)
	contenttest.Write(t, ctx, c.blobs, p, nil) // committed to the backend, never recorded
	for _, key := range []string{"testing/x/a", "testing/x/b"} {
		if _, err := c.snaps.Prepare(ctx, "k", "", nil); err != nil {
			t.Fatal(err)
		}
		if err := c.snaps.Commit(ctx, key, "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.snaps.Prepare(ctx, "child", "testing/x/a", nil); err != nil {
		t.Fatal(err)
	}
	c.collect(t)
	if _, err := c.blobs.Info(ctx, desc.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("blob: %v", err)
	}
	n := 0
	if err := c.snaps.Walk(ctx, func(snapshot.Info) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("%d snapshots left, %v", n, err)
	}
}

// TestMissingLease: what can't be recorded is taken back.
func TestMissingLease(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	under := lease.With(ctx, "gone")
	if _, err := c.Content().Writer(under, corecontent.WriterOptions{Ref: "r"}); !errdefs.IsNotFound(err) {
		t.Errorf("writer: %v", err)
	}
	if _, err := c.Snapshotter("overlayfs").Prepare(under, "s", "", nil); !errdefs.IsNotFound(err) {
		t.Errorf("prepare: %v", err)
	}
	n := 0
	if err := c.snaps.Walk(ctx, func(snapshot.Info) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("the backend has %d snapshots, %v", n, err)
	}
	if got := c.there(t, ctx); len(got) != 0 {
		t.Errorf("records %v", got)
	}
	// Half way through a write the lease goes: the blob is not recorded and is collected.
	if _, err := c.Leases().Create(ctx, "gone", nil); err != nil {
		t.Fatal(err)
	}
	w, err := c.Content().Writer(under, corecontent.WriterOptions{Ref: "r"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := c.Leases().Delete(ctx, "gone", false); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(under, 0, "", nil); !errdefs.IsNotFound(err) {
		t.Errorf("commit: %v", err)
	}
	c.collect(t)
	err = c.blobs.Walk(ctx, func(i corecontent.Info) error { return fmt.Errorf("%v is left", i.Digest) })
	if err != nil {
		t.Error(err)
	}
}

func TestCollectOldIngests(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	for _, ref := range []string{"plain", "leased"} {
		w, err := c.Content().Writer(ctx, corecontent.WriterOptions{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	if _, err := c.Leases().Create(ctx, "l", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Leases().AddResource(ctx, "l", lease.Resource{Type: "ingests", ID: "leased"}); err != nil {
		t.Fatal(err)
	}
	refs := func() (refs []string) {
		list, err := c.Content().ListStatuses(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range list {
			refs = append(refs, st.Ref)
		}
		slices.Sort(refs)
		return refs
	}
	c.collect(t)
	if got := refs(); len(got) != 2 {
		t.Errorf("new ingests: %v", got)
	}
	c.now = c.now.Add(25 * time.Hour)
	c.collect(t)
	if got := refs(); !slices.Equal(got, []string{"leased"}) {
		t.Errorf("old ingests: %v", got)
	}
}

func TestRunCollectsAfterDeletions(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx, metadata.DefaultSchedule()) }()
	defer func() { cancel(); <-done }()
	if _, err := c.Snapshotter("overlayfs").Prepare(ctx, "a", "", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Snapshotter("overlayfs").Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		if err := c.snaps.Walk(ctx, func(snapshot.Info) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was collected")
		}
	}
}
