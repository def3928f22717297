package metadata

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"gantry/internal/testutil/stored"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
)

// TestSecondVersion opens a file that the second version has written, with one of every
// kind of record: a later one has to find them all.
func TestSecondVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	stored.Unpack(t, "testdata/v2.db.gz", path)
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	in, err := Inspect(path)
	if err != nil || len(in.Wrong) > 0 || len(in.Namespaces) != 1 || in.Version != in.Newest {
		t.Fatalf("%+v, %v", in, err)
	}
	n := in.Namespaces[0]
	var got []string
	say := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	for _, c := range n.Containers {
		say("container %s of %s on %s", c.ID, c.Runtime.Name, c.SnapshotKey)
	}
	for _, i := range n.Images {
		say("image %s, %d bytes", i.Name, i.Target.Size)
	}
	for _, b := range n.Blobs {
		say("blob of %d bytes", b.Size)
	}
	for _, s := range n.Snapshots {
		say("snapshot %s on %q, committed %v, backend %v", s.Name, s.Parent, s.Kind == snapshot.KindCommitted, s.Backend != "")
	}
	for _, c := range n.Children {
		say("child %s of %s", c.Key, c.Parent)
	}
	for _, l := range n.Leases {
		say("lease %s, blob %v, snapshot %v", l.ID, slices.Contains(l.Resources, lease.Resource{Type: typeContent, ID: n.Blobs[0].Digest.String()}),
			slices.Contains(l.Resources, lease.Resource{Type: typeSnapshots + "overlayfs", ID: "base"}))
	}
	say("sandboxes %v", n.Sandboxes)
	want := []string{
		"container c of io.containerd.gantry.v2 on a", "image i, 100 bytes", "blob of 100 bytes",
		`snapshot a on "base", committed false, backend true`, `snapshot base on "", committed true, backend true`,
		"child a of base", "lease l, blob true, snapshot true", "sandboxes [pod]",
	}
	if !slices.Equal(got, want) || len(n.Unreadable) > 0 {
		t.Errorf("got %q\nwant %q\nunreadable: %v", got, want, n.Unreadable)
	}
}
