package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/core/archive"
)

// memory is a sink and source of blobs.
type memory map[digest.Digest][]byte

func (m memory) Put(_ context.Context, r io.Reader, expected digest.Digest) (ocispec.Descriptor, error) {
	p, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := digest.FromBytes(p)
	if expected != "" && expected != d {
		return ocispec.Descriptor{}, fmt.Errorf("digest %s", d)
	}
	m[d] = p
	return ocispec.Descriptor{Digest: d, Size: int64(len(p))}, nil
}

func (m memory) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[desc.Digest])), nil
}

func TestWriteRead(t *testing.T) {
	ctx := t.Context()
	blobs := memory{}
	config, err := blobs.Put(ctx, bytes.NewReader([]byte(`{"os":"linux"}`)), "")
	if err != nil {
		t.Fatal(err)
	}
	layer, _ := blobs.Put(ctx, bytes.NewReader([]byte("layer")), "")
	target, _ := blobs.Put(ctx, bytes.NewReader([]byte(`{}`)), "")
	target.MediaType = ocispec.MediaTypeImageManifest
	images := []archive.Saved{{
		Target: target, Docker: &archive.Docker{Config: config, Layers: []ocispec.Descriptor{layer}},
		Names: []archive.Name{{Full: "docker.io/library/a:v1", Familiar: "a:v1", Tag: "v1"}},
	}}
	var first, second bytes.Buffer
	if err := archive.Write(ctx, &first, blobs, images, []ocispec.Descriptor{config, layer, target}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Write(ctx, &second, blobs, images, []ocispec.Descriptor{target, layer, config}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the order of blobs shows")
	}
	back := memory{}
	got, err := archive.Read(ctx, &first, back)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Name != "docker.io/library/a:v1" || got[0].Target.Digest != target.Digest || got[0].Target.Annotations != nil || len(back) != 3 {
		t.Errorf("read back %+v with %d blobs", got, len(back))
	}
}

// TestReadSparse refuses a file of 1 TiB in some 2 KiB.
func TestReadSparse(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	_ = tw.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XXX.sparse.major": "0", "XXX.sparse.minor": "0", "XXX.sparse.numblocks": "0", "XXX.sparse.size": "1099511627776",
	}})
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	p := bytes.ReplaceAll(b.Bytes(), []byte("XXX.sparse"), []byte("GNU.sparse"))
	if _, err := archive.Read(t.Context(), bytes.NewReader(p), memory{}); err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("read: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	seed := func(files ...string) []byte {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			_ = tw.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644})
			_, _ = io.WriteString(tw, files[i+1])
		}
		_ = tw.Close()
		return b.Bytes()
	}
	f.Add(seed("oci-layout", `{"imageLayoutVersion":"1.0.0"}`, "index.json", `{"manifests":[{"digest":"sha256:x"}]}`))
	f.Add(seed("c.json", "{}", "l/layer.tar", "x", "manifest.json", `[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l/layer.tar"]}]`))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		images, err := archive.Read(t.Context(), bytes.NewReader(p), memory{})
		for _, img := range images {
			if err != nil || img.Target.Digest.Validate() != nil {
				t.Errorf("image %+v with %v", img, err)
			}
		}
	})
}
