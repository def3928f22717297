package metadata_test

import (
	"path/filepath"
	"testing"

	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/metadata"
)

// TestIsolated: a namespace writes what another has, unless that says it shares.
func TestIsolated(t *testing.T) {
	root := t.TempDir()
	blobs, err := content.New(filepath.Join(root, "content"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.Options{Content: blobs, Isolated: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	one, two := in(t, "one"), in(t, "two")
	p, desc := contenttest.Blob(1, 16)
	contenttest.Write(t, one, db.Content(), p, nil)
	there := func() int64 {
		t.Helper()
		w, err := db.Content().Writer(two, corecontent.WriterOptions{Ref: "r", Desc: desc})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		st, err := w.Status()
		if err != nil {
			t.Fatal(err)
		}
		return st.Offset
	}
	if n := there(); n != 0 {
		t.Errorf("%d bytes are there", n)
	}
	if err := db.Namespaces().SetLabel(t.Context(), "one", "containerd.io/namespace.shareable", "true"); err != nil {
		t.Fatal(err)
	}
	if n := there(); n != int64(len(p)) {
		t.Errorf("shared: %d bytes are there", n)
	}
}

// TestSharedIsWrittenTo: what was to be had whole becomes an ingest when it is begun again.
func TestSharedIsWrittenTo(t *testing.T) {
	c := open(t)
	one, two := in(t, "one"), in(t, "two")
	c.blob(t, one, 1, map[string]string{"containerd.io/gc.root": "x"})
	p, desc := contenttest.Blob(1, 16)
	w, err := c.Content().Writer(two, corecontent.WriterOptions{Ref: "r", Desc: desc})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(two, 16, desc.Digest, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Content().Info(two, desc.Digest); err != nil || info.Size != 16 {
		t.Errorf("%+v, %v", info, err)
	}
}
