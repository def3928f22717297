// Package archive reads and writes images as tar streams: Read and Write for whoever has
// blobs and images of its own, Import and Export on the core's content store.
//
// Two layouts are read, both of them mixed in what docker save writes:
//
//	oci-layout, index.json, blobs/ALG/HEX      OCI image layout 1.0
//	manifest.json, and the files it names      Docker's archive: configs ("HEX.json")
//	                                           and layers ("HEX/layer.tar", maybe links)
//
// A file's path is only ever compared with other paths of the same archive and never
// reaches a file system: each file becomes a blob, named by its digest.
package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/compression"
)

// Bounds against hostile archives.
const (
	maxDocument = 8 << 20 // bytes of index.json and manifest.json
	maxEntries  = 1 << 17
	maxLinks    = 8 // links followed to one file
	maxName     = 4096
)

// ErrFormat says that the stream is a tar, but not an archive of images.
var ErrFormat = errors.New("unrecognized image format")

// Sink keeps blobs.
type Sink interface {
	// Put stores r. With an expected digest it is an error when r has another.
	Put(ctx context.Context, r io.Reader, expected digest.Digest) (ocispec.Descriptor, error)
}

// Image is an image of an archive; Name is as the archive has it, "" for none.
type Image struct {
	Name   string
	Target ocispec.Descriptor

	config ocispec.Descriptor // of Docker's archives
}

// Annotations that carry an image's name in an index.
const (
	AnnotationName = "io.containerd.image.name"
	annotationRef  = ocispec.AnnotationRefName
)

// file is a regular file of the archive, kept as a blob.
type file struct {
	desc ocispec.Descriptor // digest and size
	kind compression.Kind
}

type reader struct {
	sink      Sink
	files     map[string]file
	links     map[string]string
	documents map[string][]byte
	// compress, if set, packs a plain layer that only Docker's manifest names.
	compress func(ctx context.Context, plain ocispec.Descriptor) (ocispec.Descriptor, error)
}

// Read stores the files of an archive in sink and returns the images it names. It
// unpacks r if need be.
func Read(ctx context.Context, r io.Reader, sink Sink) ([]Image, error) {
	a, err := read(ctx, r, sink)
	if err != nil {
		return nil, err
	}
	switch {
	case a.isLayout():
		return a.layout()
	case a.isDocker():
		return a.docker(ctx)
	}
	return nil, ErrFormat
}

// read stores the files and keeps the documents.
func read(ctx context.Context, r io.Reader, sink Sink) (*reader, error) {
	plain, _, err := compression.Reader(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	a := &reader{sink: sink, files: map[string]file{}, links: map[string]string{}, documents: map[string][]byte{}}
	return a, a.readAll(ctx, plain)
}

func (a *reader) isLayout() bool { return a.documents[ocispec.ImageLayoutFile] != nil }
func (a *reader) isDocker() bool { return a.documents[fileManifest] != nil }

// fileManifest is the document of Docker's archive.
const fileManifest = "manifest.json"

func (a *reader) readAll(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if n == maxEntries {
			return fmt.Errorf("read archive: more than %d entries", maxEntries)
		}
		if len(h.Name) > maxName || len(h.Linkname) > maxName {
			return fmt.Errorf("read archive: name longer than %d bytes", maxName)
		}
		if err := a.add(ctx, h, tr); err != nil {
			return fmt.Errorf("read %q from archive: %w", h.Name, err)
		}
	}
}

func (a *reader) add(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := clean(h.Name)
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errors.New("sparse files are not allowed") // a few bytes may stand for any size
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		a.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
		return nil
	case tar.TypeLink:
		a.links[name] = clean(h.Linkname)
		return nil
	default:
		return nil
	}
	switch name {
	case ocispec.ImageLayoutFile, ocispec.ImageIndexFile, fileManifest:
		if h.Size > maxDocument {
			return fmt.Errorf("%d bytes, at most %d are allowed", h.Size, maxDocument)
		}
		p, err := io.ReadAll(io.LimitReader(r, maxDocument))
		a.documents[name] = p
		return err
	case "repositories", "VERSION":
		return nil
	}
	expected := blobDigest(name)
	br := bufio.NewReaderSize(r, 64<<10)
	kind, err := compression.Peek(br)
	if err != nil {
		return err
	}
	desc, err := a.sink.Put(ctx, br, expected)
	a.files[name] = file{desc: desc, kind: kind}
	return err
}

// clean brings a path to one spelling, rooted at the archive: no "..", no "./".
func clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// blobDigest is the digest that a path of an OCI layout promises, "" for other paths.
func blobDigest(name string) digest.Digest {
	rest, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/")
	if !ok {
		return ""
	}
	alg, hex, ok := strings.Cut(rest, "/")
	d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
	if !ok || d.Validate() != nil {
		return ""
	}
	return d
}

func (a *reader) find(name string) (file, bool) {
	name = clean(name)
	for range maxLinks {
		if f, ok := a.files[name]; ok {
			return f, true
		}
		next, ok := a.links[name]
		if !ok {
			break
		}
		name = next
	}
	return file{}, false
}

// layout returns the images of index.json.
func (a *reader) layout() ([]Image, error) {
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(a.documents[ocispec.ImageLayoutFile], &layout); err != nil {
		return nil, fmt.Errorf("read oci-layout: %w", err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("unsupported OCI layout version %q", layout.Version)
	}
	var index ocispec.Index
	if err := json.Unmarshal(a.documents[ocispec.ImageIndexFile], &index); err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	var out []Image
	for _, d := range index.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("read index.json: digest %q: %w", d.Digest, err)
		}
		out = append(out, Image{Name: nameOf(d.Annotations), Target: target(d)})
	}
	return out, nil
}

func nameOf(annotations map[string]string) string {
	if n := annotations[AnnotationName]; n != "" {
		return n
	}
	return annotations[annotationRef]
}

// target is the descriptor without what only the archive says of it.
func target(d ocispec.Descriptor) ocispec.Descriptor {
	kept := map[string]string{}
	for k, v := range d.Annotations {
		if k != AnnotationName && k != annotationRef {
			kept[k] = v
		}
	}
	d.Annotations = kept
	if len(kept) == 0 {
		d.Annotations = nil
	}
	return d
}
