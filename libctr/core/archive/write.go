package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
)

// Saved is an image to be written: its target, the names it is to have in the archive
// (none is fine), and the platform that Docker's manifest.json shows of it.
type Saved struct {
	Target ocispec.Descriptor
	Names  []Name
	Docker *Docker // nil leaves the image out of manifest.json
}

// Name is one name of an image: the full reference, its short form, "" when Docker has none
// for it, and its tag.
type Name struct {
	Full, Familiar, Tag string
}

// Docker is the one platform that manifest.json can describe.
type Docker struct {
	Config ocispec.Descriptor
	Layers []ocispec.Descriptor
}

// Source opens blobs.
type Source interface {
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Write writes an OCI layout with Docker's manifest.json: the same images give the same
// bytes, entries are sorted by name and have no times. blobs are all that the targets
// need, without repetition.
func Write(ctx context.Context, w io.Writer, src Source, images []Saved, blobs []ocispec.Descriptor) error {
	return write(ctx, w, src, images, blobs, false)
}

// write is Write; bare leaves out Docker's manifest.json.
func write(ctx context.Context, w io.Writer, src Source, images []Saved, blobs []ocispec.Descriptor, bare bool) error {
	tw := tar.NewWriter(w)
	out := writer{tw: tw, dirs: map[string]bool{}}
	blobs = slices.Clone(blobs)
	slices.SortFunc(blobs, func(a, b ocispec.Descriptor) int { return strings.Compare(blobPath(a.Digest), blobPath(b.Digest)) })
	for _, b := range blobs {
		if err := out.blob(ctx, src, b); err != nil {
			return err
		}
	}
	for _, doc := range []struct {
		name string
		body any
	}{
		{ocispec.ImageIndexFile, indexOf(images)},
		{fileManifest, entriesOf(images)},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
	} {
		if doc.name == fileManifest && bare {
			continue
		}
		p, err := json.Marshal(doc.body)
		if err != nil {
			return err
		}
		if err := out.file(doc.name, int64(len(p)), strings.NewReader(string(p))); err != nil {
			return err
		}
	}
	return tw.Close()
}

type writer struct {
	tw   *tar.Writer
	dirs map[string]bool
}

func (w *writer) dir(name string) error {
	if w.dirs[name] {
		return nil
	}
	w.dirs[name] = true
	return w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
}

func (w *writer) file(name string, size int64, r io.Reader) error {
	if err := w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(w.tw, r)
	return err
}

func (w *writer) blob(ctx context.Context, src Source, desc ocispec.Descriptor) error {
	for _, d := range []string{ocispec.ImageBlobsDir + "/", ocispec.ImageBlobsDir + "/" + desc.Digest.Algorithm().String() + "/"} {
		if err := w.dir(d); err != nil {
			return err
		}
	}
	rc, err := src.Open(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	verifier := desc.Digest.Verifier()
	if err := w.file(blobPath(desc.Digest), desc.Size, io.TeeReader(rc, verifier)); err != nil {
		return fmt.Errorf("write blob %s: %w", desc.Digest, err)
	}
	if !verifier.Verified() {
		return errdefs.WithClass(errdefs.ErrDataLoss, fmt.Errorf("write blob %s: its content has another digest", desc.Digest))
	}
	return nil
}

func blobPath(d digest.Digest) string {
	return ocispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

func indexOf(images []Saved) ocispec.Index {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
	}
	for _, img := range images {
		if len(img.Names) == 0 {
			index.Manifests = append(index.Manifests, img.Target)
		}
		for _, n := range img.Names {
			d := img.Target
			d.Annotations = make(map[string]string, len(img.Target.Annotations)+2)
			maps.Copy(d.Annotations, img.Target.Annotations)
			d.Annotations[AnnotationName] = n.Full // a tag's target may have the annotations of another name
			if n.Tag != "" {
				d.Annotations[annotationRef] = n.Tag
			}
			index.Manifests = append(index.Manifests, d)
		}
	}
	return index
}

// entriesOf gives each config one entry with all its names, as Docker's loader wants.
func entriesOf(images []Saved) []entry {
	out := []entry{}
	at := map[digest.Digest]int{}
	for _, img := range images {
		if img.Docker == nil {
			continue
		}
		i, known := at[img.Docker.Config.Digest]
		if !known {
			i = len(out)
			at[img.Docker.Config.Digest] = i
			e := entry{Config: blobPath(img.Docker.Config.Digest), RepoTags: []string{}, Layers: []string{}}
			for _, l := range img.Docker.Layers {
				e.Layers = append(e.Layers, blobPath(l.Digest))
			}
			out = append(out, e)
		}
		for _, n := range img.Names {
			if n.Tag != "" && n.Familiar != "" {
				out[i].RepoTags = append(out[i].RepoTags, n.Familiar)
			}
		}
	}
	return out
}
