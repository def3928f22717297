package server_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	coretransfer "gantry/libctr/core/transfer"
)

// TestImportOverAndOver imports indexes that name the same thing very often, and very many things.
func TestImportOverAndOver(t *testing.T) {
	c := start(t, newConfig(t))
	ctx := inNamespace(t.Context(), "over")
	bring := func(archive []byte) error {
		return c.client.Transfers().Transfer(ctx, &coretransfer.Import{Stream: bytes.NewReader(archive)},
			&coretransfer.ImageStore{Name: "over", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}}, coretransfer.Options{})
	}
	none := func(d ocispec.Descriptor) ocispec.Descriptor { // nobody's platform: it need not be there
		d.Platform = &ocispec.Platform{OS: "plan9", Architecture: "mips"}
		return d
	}
	leaf := encoded(t, ocispec.Index{Manifests: []ocispec.Descriptor{none(descriptor(ocispec.MediaTypeImageManifest, []byte("not there")))}})
	one := descriptor(ocispec.MediaTypeImageIndex, leaf)
	level := encoded(t, ocispec.Index{Manifests: slices.Repeat([]ocispec.Descriptor{one}, 150)})
	often := encoded(t, ocispec.Index{Manifests: slices.Repeat([]ocispec.Descriptor{descriptor(ocispec.MediaTypeImageIndex, level)}, 150)})
	if err := bring(layout(t, often, level, leaf)); err != nil {
		t.Errorf("the same very often: %v", err)
	}

	var many ocispec.Index
	for i := range 10_001 {
		many.Manifests = append(many.Manifests, none(descriptor(ocispec.MediaTypeImageManifest, fmt.Append(nil, i))))
	}
	if err := bring(layout(t, encoded(t, many))); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("very many: %v", err)
	}
}

func descriptor(mediaType string, p []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(p), Size: int64(len(p))}
}

// layout is an archive of an index and of blobs.
func layout(t *testing.T, index []byte, blobs ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, p []byte) {
		t.Helper()
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(p))})
		if _, werr := w.Write(p); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
	add("oci-layout", encoded(t, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}))
	for _, p := range blobs {
		add("blobs/sha256/"+digest.FromBytes(p).Encoded(), p)
	}
	add("index.json", index)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
