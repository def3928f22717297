// Package diff applies layer blobs to mounts and makes layer blobs of the
// difference between two mounts, on a content store.
//
// Apply does not mount an overlay: it unpacks straight into the upper directory,
// and decompresses in parallel to hashing and writing. What it writes is not
// synced; the snapshotter does that at commit.
package diff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/diff"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/layer"
	"gantry/libctr/mount"
)

// Differ is a diff.Applier and a diff.Comparer. Safe for concurrent use.
type Differ struct {
	store      content.Store
	processors []Processor
}

var (
	_ diff.Applier  = (*Differ)(nil)
	_ diff.Comparer = (*Differ)(nil)
)

// New returns a differ whose blobs are in the store, in the namespace of each call. The
// processors are for media types that it does not know itself, or is not to.
func New(store content.Store, processors ...Processor) *Differ {
	return &Differ{store: store, processors: processors}
}

// layerTypes are the media types that Apply takes, up to a compression suffix.
var layerTypes = []string{
	ocispec.MediaTypeImageLayer,
	ocispec.MediaTypeImageLayerNonDistributable, //nolint:staticcheck // still in images
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.foreign.diff.tar",
}

func isLayer(mediaType string) bool {
	base, suffix, _ := strings.Cut(mediaType, "+")
	if suffix == "" {
		base = strings.TrimSuffix(strings.TrimSuffix(base, ".gzip"), ".zstd")
	}
	return slices.Contains(layerTypes, base) && slices.Contains([]string{"", "gzip", "zstd"}, suffix)
}

// Apply implements diff.Applier. The compression is told by the blob's first bytes.
func (d *Differ) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []coremount.Mount, o diff.ApplyOptions) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	if d.find(desc.MediaType) == nil && !isLayer(desc.MediaType) {
		return none, noProcessor(desc.MediaType)
	}
	blob, err := d.store.ReaderAt(ctx, desc)
	if err != nil {
		return none, fmt.Errorf("apply layer: %w", err)
	}
	defer blob.Close()
	applied, err := d.apply(ctx, progress(io.NewSectionReader(blob, 0, blob.Size()), o.Progress), desc.MediaType, mounts, o)
	if err != nil {
		return none, fmt.Errorf("apply %v: %w", desc.Digest, err)
	}
	return applied, nil
}

// noProcessor has containerd's words.
func noProcessor(mediaType string) error {
	return errdefs.NotImplemented("failed to get stream processor for %s: no processor for media-type", mediaType)
}

// apply unpacks the blob onto the mounts and describes the tar inside it.
func (d *Differ) apply(ctx context.Context, blob io.Reader, mediaType string, mounts []coremount.Mount, o diff.ApplyOptions) (applied ocispec.Descriptor, err error) {
	s, mediaType, err := d.process(ctx, blob, mediaType, o.Payloads)
	if err != nil {
		return applied, err
	}
	defer s.Close()
	if !isLayer(mediaType) {
		return applied, noProcessor(mediaType)
	}
	err = withTarget(ctx, mounts, func(t layer.Target) error {
		if applied, err = unpack(ctx, s, t); err != nil || !o.SyncFS {
			return err
		}
		return syncFS(t.Dir)
	})
	if err == nil {
		err = s.wait()
	}
	return applied, s.explain(err)
}

func unpack(ctx context.Context, packed io.Reader, t layer.Target) (ocispec.Descriptor, error) {
	stream, err := decompress(packed)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	ahead := newReadAhead(stream)
	defer ahead.Close()
	counted := &digestReader{r: ahead, hash: digest.Canonical.Digester()}
	if err := layer.Apply(ctx, counted, t); err != nil {
		return ocispec.Descriptor{}, err
	}
	// The diff id covers what comes after the last entry too.
	if err := drain(ctx, counted); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer,
		Digest:    counted.hash.Digest(),
		Size:      counted.size,
	}, nil
}

// progress tells told how much of r has been read.
func progress(r io.Reader, told func(int64)) io.Reader {
	if told == nil {
		return r
	}
	return &progressReader{r: r, told: told}
}

type progressReader struct {
	r    io.Reader
	read int64
	told func(int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.read += int64(n)
	p.told(p.read)
	return n, err
}

// syncFS puts the file system of a directory to disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync the file system of a layer: %w", err)
	}
	return nil
}

// maxTrailer bounds what may follow a tar's end: padding to a tape block.
const maxTrailer = 64 << 20

func drain(ctx context.Context, r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxTrailer+1))
	switch {
	case err != nil:
		return err
	case n > maxTrailer:
		return errdefs.InvalidArgument("more than %d bytes follow the end of the tar", maxTrailer)
	}
	return ctx.Err()
}

// withTarget calls fn with where a layer for these mounts is to be unpacked.
func withTarget(ctx context.Context, mounts []coremount.Mount, fn func(layer.Target) error) error {
	if t, ok := overlayTarget(mounts); ok {
		return fn(t)
	}
	if dir, ok := mount.Directory(mounts); ok {
		if slices.Contains(mounts[0].Options, "ro") {
			return errdefs.FailedPrecondition("the mount is read-only")
		}
		return fn(layer.Target{Dir: dir})
	}
	return mount.WithTemp(ctx, mounts, func(root string) error { return fn(layer.Target{Dir: root}) })
}

// overlayTarget reads the upper and lower directories out of an overlay mount.
func overlayTarget(mounts []coremount.Mount) (t layer.Target, ok bool) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" || mounts[0].Target != "" {
		return t, false
	}
	t.Overlay = true
	for _, o := range mounts[0].Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "upperdir":
			t.Dir = value
		case "lowerdir":
			t.Lower = strings.Split(value, ":")
		case "userxattr":
			t.UserXattr = true
		}
	}
	return t, t.Dir != ""
}

// digestReader hashes and counts what passes.
type digestReader struct {
	r    io.Reader
	hash digest.Digester
	size int64
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.hash.Hash().Write(p[:n])
	d.size += int64(n)
	return n, err
}

var errUnknownCompression = errors.New("compression is not known")
