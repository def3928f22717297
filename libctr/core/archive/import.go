package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
)

// ImportOptions say how an archive becomes blobs. The zero value takes it as it is.
type ImportOptions struct {
	// Compress packs the plain layers of Docker's archives with gzip.
	Compress bool
}

// Import stores the files of an archive and returns the index of its images: the OCI
// layout's own, or one made of Docker's manifest.json. Names are annotations of its
// entries. Of an OCI layout all that is below an entry may be missing, as with images that
// have one platform of many. ctx should be under a lease: nothing refers to the blobs yet.
func Import(ctx context.Context, store content.Store, r io.Reader, o ImportOptions) (ocispec.Descriptor, error) {
	sink := &storeSink{store: store, prefix: "import-" + rand.Text()}
	a, err := read(ctx, r, sink)
	var index []byte
	switch {
	case err != nil:
	case a.isLayout():
		_, err = a.layout() // checks
		index = a.documents[ocispec.ImageIndexFile]
	case a.isDocker():
		if o.Compress {
			a.compress = sink.compress
		}
		index, err = a.dockerIndex(ctx, sink)
	default:
		err = errdefs.WithClass(errdefs.ErrInvalidArgument, ErrFormat)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("import: %w", err)
	}
	desc, err := sink.Put(ctx, bytes.NewReader(index), digest.FromBytes(index))
	desc.MediaType, desc.Size = ocispec.MediaTypeImageIndex, int64(len(index))
	return desc, err
}

// dockerIndex makes an index of Docker's archive.
func (a *reader) dockerIndex(ctx context.Context, sink *storeSink) ([]byte, error) {
	images, err := a.docker(ctx)
	if err != nil {
		return nil, err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{}}
	for _, img := range images {
		d := img.Target
		if d.Platform, err = sink.platform(ctx, img.config); err != nil {
			return nil, err
		}
		if img.Name != "" {
			name, err := reference.ParseDockerRef(img.Name)
			if err != nil {
				return nil, errdefs.InvalidArgument("image name %q: %w", img.Name, err)
			}
			d.Annotations = names(name.String(), nil)
		}
		index.Manifests = append(index.Manifests, d)
	}
	return json.Marshal(index)
}

// names are the annotations by which an index names an entry, beside what it has.
func names(name string, beside map[string]string) map[string]string {
	out := maps.Clone(beside)
	if out == nil {
		out = make(map[string]string)
	}
	out[AnnotationName], out[annotationRef] = name, objectOf(name)
	return out
}
