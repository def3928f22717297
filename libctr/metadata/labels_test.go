package metadata_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/content/contenttest"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
)

// TestCollectLabels: one record has the label, and something else is kept by it or not.
func TestCollectLabels(t *testing.T) {
	const gc = "containerd.io/gc."
	_, desc := contenttest.Blob(1, 16)
	blob := desc.Digest.String()
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	for _, tc := range []struct {
		name       string
		on         string // what has the label: image, expired image, container, snapshot, content, lease, sandbox
		key, value string
		subject    string            // what it is about, "blob" or "snapshot" of the name s
		labels     map[string]string // of the subject
		kept       bool
	}{
		{"an image's content", "image", gc + "ref.content", blob, "blob", nil, true},
		{"with a name after a dot", "image", gc + "ref.content.x.y/z", blob, "blob", nil, true},
		{"with a name after a slash", "image", gc + "ref.content/x", blob, "blob", nil, true},
		{"another word", "image", gc + "ref.contents", blob, "blob", nil, false},
		{"an image's snapshot", "image", gc + "ref.snapshot.overlayfs", "s", "snapshot", nil, true},
		{"a snapshot with a name", "image", gc + "ref.snapshot.overlayfs/x", "s", "snapshot", nil, true},
		{"of another snapshotter", "image", gc + "ref.snapshot.native", "s", "snapshot", nil, false},
		{"a dot is the snapshotter's", "image", gc + "ref.snapshot.overlayfs.x", "s", "snapshot", nil, false},
		{"a container's content", "container", gc + "ref.content", blob, "blob", nil, true},
		{"a rooted snapshot's content", "snapshot", gc + "ref.content", blob, "blob", nil, true},
		{"rooted content's snapshot", "content", gc + "ref.snapshot.overlayfs", "s", "snapshot", nil, true},
		{"a sandbox's content", "sandbox", gc + "ref.content.x", blob, "blob", nil, true},
		{"a sandbox's snapshot", "sandbox", gc + "ref.snapshot.overlayfs", "s", "snapshot", nil, true},
		{"a lease refers to nothing", "lease", gc + "ref.content", blob, "blob", nil, false},
		{"an expired image holds nothing", "expired image", gc + "ref.content", blob, "blob", nil, false},
		{"back to a container", "container", "x", "", "blob", map[string]string{gc + "bref.container": "on"}, true},
		{"back to a container by name", "container", "x", "", "snapshot", map[string]string{gc + "bref.container/x": "on"}, true},
		{"back to another container", "container", "x", "", "blob", map[string]string{gc + "bref.container": "off"}, false},
		{"back to an image", "image", "x", "", "snapshot", map[string]string{gc + "bref.image.x": "on"}, true},
		{"back to an expired image", "expired image", "x", "", "snapshot", map[string]string{gc + "bref.image": "on"}, false},
		{"back to a snapshot", "snapshot", "x", "", "blob", map[string]string{gc + "bref.snapshot.overlayfs/x": "on"}, true},
		{"root", "image", "x", "", "blob", map[string]string{gc + "root": "1"}, true},
		{"root with a name", "image", "x", "", "snapshot", map[string]string{gc + "root.mine": "1"}, true},
		{"content does not expire", "image", "x", "", "blob", map[string]string{gc + "expire": "2100-01-01T00:00:00Z"}, false},
		{"used lately", "image", gc + "cond.snapshot.overlayfs", "usedat<2h|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(time.Hour)}, true},
		{"not used lately", "image", gc + "cond.snapshot.overlayfs/x", "usedat<2h|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(3 * time.Hour)}, false},
		{"used long ago", "content", gc + "cond.snapshot.overlayfs", "usedat>2h|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(3 * time.Hour)}, true},
		{"one of two is enough", "image", gc + "cond.snapshot.overlayfs", "usedat>2h,usedat<1m|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(0)}, true},
		{"nobody knows the use", "image", gc + "cond.snapshot.overlayfs", "usedat<2h|s", "snapshot", nil, false},
		{"a condition of an expired image", "expired image", gc + "cond.snapshot.overlayfs", "usedat<2h|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(0)}, false},
		{"no condition", "image", gc + "cond.snapshot.overlayfs", "usedat=2h,usedat<soon,size<3|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(0)}, false},
		{"conditions are not a container's", "container", gc + "cond.snapshot.overlayfs", "usedat<2h|s", "snapshot", map[string]string{gc + "cond.value-usedat": ago(0)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, ctx := open(t), in(t, "testing")
			subject := "content " + blob
			if tc.subject == "blob" {
				c.blob(t, ctx, 1, tc.labels)
			} else {
				subject = "snapshot s"
				c.layer(t, "s", "", tc.labels)
			}
			c.holder(t, tc.on, map[string]string{tc.key: tc.value})
			c.collect(t)
			if got := c.there(t, ctx)[subject]; got != tc.kept {
				t.Errorf("kept: %v", got)
			}
		})
	}
}

// layer makes a committed snapshot.
func (c *core) layer(t *testing.T, name, parent string, labels map[string]string) {
	t.Helper()
	ctx, sn := in(t, "testing"), c.Snapshotter("overlayfs")
	if _, err := sn.Prepare(ctx, "making "+name, parent, nil); err != nil {
		t.Fatal(err)
	}
	if err := sn.Commit(ctx, name, "making "+name, labels); err != nil {
		t.Fatal(err)
	}
}

// holder makes the record "on" of that kind.
func (c *core) holder(t *testing.T, kind string, labels map[string]string) {
	t.Helper()
	ctx := in(t, "testing")
	labels = maps.Clone(labels)
	var err error
	switch kind {
	case "expired image":
		labels["containerd.io/gc.expire"] = c.now.Add(-time.Hour).UTC().Format(time.RFC3339)
		fallthrough
	case "image":
		_, err = c.Images().Create(ctx, image.Image{Name: "on", Target: metadatatest.Target("nothing"), Labels: labels})
	case "container":
		record := metadatatest.Container("on")
		record.Snapshotter, record.SnapshotKey, record.Labels = "", "", labels
		_, err = c.Containers().Create(ctx, record)
	case "snapshot":
		labels["containerd.io/gc.root"] = "x"
		c.layer(t, "on", "", labels)
	case "content":
		labels["containerd.io/gc.root"] = "x"
		c.blob(t, ctx, 99, labels)
	case "lease":
		_, err = c.Leases().Create(ctx, "on", labels)
	case "sandbox":
		_, err = c.Sandboxes().Create(ctx, sandbox.Sandbox{ID: "on", Labels: labels})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFlatLeaseOfImage: it holds the image and its manifest, and not what that refers to.
func TestFlatLeaseOfImage(t *testing.T) {
	for _, flat := range []bool{true, false} {
		t.Run(fmt.Sprint("flat ", flat), func(t *testing.T) {
			c, ctx := open(t), in(t, "testing")
			config := c.blob(t, ctx, 1, nil)
			manifest := c.blob(t, ctx, 2, map[string]string{"containerd.io/gc.ref.content.config": config.String()})
			mounted := c.blob(t, ctx, 3, nil)
			under := c.blob(t, ctx, 4, map[string]string{"containerd.io/gc.bref.image": "i"})
			labels := map[string]string{}
			if flat {
				labels["containerd.io/gc.flat"] = "1"
			}
			if _, err := c.Leases().Create(ctx, "l", labels); err != nil {
				t.Fatal(err)
			}
			// An image that expires is held by the lease under which it is made.
			_, err := c.Images().Create(lease.With(ctx, "l"), image.Image{Name: "i",
				Target: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: manifest, Size: 16},
				Labels: map[string]string{
					"containerd.io/gc.expire":        c.now.Add(-time.Hour).UTC().Format(time.RFC3339),
					"containerd.io/gc.ref.content.x": mounted.String(),
				}})
			if err != nil {
				t.Fatal(err)
			}
			c.collect(t)
			want := map[string]bool{"lease l": true, "image i": true, "content " + manifest.String(): true}
			if !flat {
				for _, d := range []digest.Digest{config, mounted, under} {
					want["content "+d.String()] = true
				}
			}
			if got := c.there(t, ctx); !maps.Equal(got, want) {
				t.Errorf("left %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			if err := c.Leases().Delete(ctx, "l", true); err != nil {
				t.Fatal(err)
			}
			if got := c.there(t, ctx); len(got) != 0 {
				t.Errorf("left without the lease: %v", got)
			}
		})
	}
}

// TestDeletedUnderLease: what is deleted under a lease is none of its resources any more.
func TestDeletedUnderLease(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	if _, err := c.Leases().Create(ctx, "l", nil); err != nil {
		t.Fatal(err)
	}
	under := lease.With(ctx, "l")
	resources := func(want ...lease.Resource) {
		t.Helper()
		got, err := c.Leases().ListResources(ctx, "l")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("resources %v, %v, want %v", got, err, want)
		}
	}
	sn := c.Snapshotter("overlayfs")
	if _, err := sn.Prepare(under, "active", "", nil); err != nil {
		t.Fatal(err)
	}
	resources(lease.Resource{Type: "snapshots/overlayfs", ID: "active"})
	if err := sn.Commit(under, "done", "active", nil); err != nil {
		t.Fatal(err)
	}
	resources(lease.Resource{Type: "snapshots/overlayfs", ID: "done"})
	d := c.blob(t, under, 1, nil)
	resources(lease.Resource{Type: "content", ID: d.String()}, lease.Resource{Type: "snapshots/overlayfs", ID: "done"})
	if err := sn.Remove(under, "done"); err != nil {
		t.Fatal(err)
	}
	if err := c.Content().Delete(under, d); err != nil {
		t.Fatal(err)
	}
	resources()
}

func TestResourceTypes(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	if _, err := c.Leases().Create(ctx, "l", nil); err != nil {
		t.Fatal(err)
	}
	_, desc := contenttest.Blob(1, 1)
	for typ, class := range map[string]func(error) bool{
		"snapshots": errdefs.IsInvalidArgument, "snapshots/": errdefs.IsInvalidArgument,
		"snapshots/a/b": errdefs.IsInvalidArgument, "content/x": errdefs.IsInvalidArgument,
		"ingests/x": errdefs.IsInvalidArgument, "images/x": errdefs.IsInvalidArgument,
		"containers": errdefs.IsNotImplemented, "": errdefs.IsNotImplemented,
		"content": nil, "images": nil, "ingests": nil, "snapshots/other": nil,
	} {
		err := c.Leases().AddResource(ctx, "l", lease.Resource{Type: typ, ID: desc.Digest.String()})
		if class == nil && err != nil || class != nil && !class(err) {
			t.Errorf("type %q: %v", typ, err)
		}
	}
}

// TestExpiryBringsCollection: nobody deletes anything, and what has expired goes.
func TestExpiryBringsCollection(t *testing.T) {
	c, ctx := open(t), in(t, "testing")
	c.real = true
	soon := time.Now().Add(1500 * time.Millisecond).UTC().Format(time.RFC3339)
	if _, err := c.Leases().Create(ctx, "l", map[string]string{"containerd.io/gc.expire": soon}); err != nil {
		t.Fatal(err)
	}
	c.blob(t, lease.With(ctx, "l"), 1, nil)
	c.run(t, metadata.DefaultSchedule())
	for deadline := time.Now().Add(20 * time.Second); len(c.there(t, ctx)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
	}
}

// run runs the scheduler until the test ends.
func (c *core) run(t *testing.T, s metadata.Schedule) {
	done := make(chan struct{})
	go func() { defer close(done); c.Run(t.Context(), s) }()
	t.Cleanup(func() { <-done })
}
