package metadata_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
)

// TestLostBlob: a blob that is short, or has gone, says so when it is read; whoever brings
// it again may write it, and then it is whole.
func TestLostBlob(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(path string) error
		class error
	}{
		"short":   {func(path string) error { return os.Truncate(path, 5) }, errdefs.ErrDataLoss},
		"long":    {func(path string) error { return os.Truncate(path, 17) }, errdefs.ErrDataLoss},
		"removed": {os.Remove, errdefs.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			c, ctx := open(t), in(t, "testing")
			data, desc := contenttest.Blob(1, 16)
			root := map[string]string{"containerd.io/gc.root": "x"}
			d := contenttest.Write(t, ctx, c.Content(), data, root)
			other := c.blob(t, ctx, 2, root)
			if err := tc.spoil(filepath.Join(c.root, "content", "blobs", "sha256", d.Encoded())); err != nil {
				t.Fatal(err)
			}
			_, err := c.Content().ReaderAt(ctx, ocispec.Descriptor{Digest: d})
			if !errors.Is(err, tc.class) || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("read: %v", err)
			}
			if r, err := c.Content().ReaderAt(ctx, ocispec.Descriptor{Digest: other}); err != nil {
				t.Errorf("another blob: %v", err)
			} else {
				r.Close()
			}
			if _, err := c.Collect(ctx); err != nil {
				t.Errorf("collect: %v", err)
			}
			w, err := c.Content().Writer(ctx, corecontent.WriterOptions{Ref: "again", Desc: desc})
			if err != nil {
				t.Fatalf("write again: %v", err)
			}
			defer w.Close()
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(ctx, 16, d, nil); err != nil && !errdefs.IsAlreadyExists(err) {
				t.Fatal(err)
			}
			r, err := c.Content().ReaderAt(ctx, ocispec.Descriptor{Digest: d})
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			if i, err := c.Content().Info(ctx, d); err != nil || i.Labels["containerd.io/gc.root"] != "x" {
				t.Errorf("its record: %+v, %v", i, err)
			}
		})
	}
}
