package archive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/manifest"
)

// storeSink puts an archive's files into a content store, and opens its blobs.
type storeSink struct {
	store  content.Store
	prefix string // of the ingests' names
	n      int
}

// abortTime bounds the end of an ingest that failed.
const abortTime = 10 * time.Second

// Put implements Sink. A blob that is there is held by the lease of ctx.
func (k *storeSink) Put(ctx context.Context, r io.Reader, expected digest.Digest) (ocispec.Descriptor, error) {
	return k.write(ctx, expected, nil, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// write makes a blob of what fill writes. What is there already need not be written.
func (k *storeSink) write(ctx context.Context, expected digest.Digest, labels map[string]string, fill func(io.Writer) error) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	k.n++
	ref := fmt.Sprintf("%s-%d", k.prefix, k.n)
	w, err := k.store.Writer(ctx, content.WriterOptions{Ref: ref, Desc: ocispec.Descriptor{Digest: expected}})
	if errdefs.IsAlreadyExists(err) && expected != "" {
		info, err := k.store.Info(ctx, expected)
		return ocispec.Descriptor{Digest: expected, Size: info.Size}, err
	}
	if err != nil {
		return none, err
	}
	defer w.Close()
	desc, err := commit(ctx, w, expected, labels, fill)
	if err != nil {
		w.Close()
		k.abort(ctx, ref)
		return none, err
	}
	return desc, nil
}

func commit(ctx context.Context, w content.Writer, expected digest.Digest, labels map[string]string, fill func(io.Writer) error) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	st, err := w.Status()
	if err == nil && st.Offset > 0 { // another namespace has it, or it was begun before
		err = w.Truncate(0)
	}
	if err != nil {
		return none, err
	}
	if err := fill(w); err != nil {
		return none, err
	}
	st, err = w.Status()
	if err != nil {
		return none, err
	}
	d := expected
	if d == "" {
		d = w.Digest()
	}
	err = w.Commit(ctx, st.Offset, d, labels)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return none, err
	}
	return ocispec.Descriptor{Digest: d, Size: st.Offset}, nil
}

// abort drops an ingest, even when ctx has ended; what can't be dropped goes with its lease.
func (k *storeSink) abort(ctx context.Context, ref string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	_ = k.store.Abort(ctx, ref)
}

// Open implements Source.
func (k *storeSink) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return content.Open(ctx, k.store, desc)
}

// compress makes a packed blob of a plain one, which keeps its diff id as a label.
func (k *storeSink) compress(ctx context.Context, plain ocispec.Descriptor) (ocispec.Descriptor, error) {
	src, err := k.Open(ctx, plain)
	if err != nil {
		return plain, err
	}
	defer src.Close()
	labels := map[string]string{"containerd.io/uncompressed": plain.Digest.String()}
	return k.write(ctx, "", labels, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 256<<10)
		z := gzip.NewWriter(out)
		_, err := io.Copy(z, src)
		return errors.Join(err, z.Close(), out.Flush())
	})
}

// platform reads what a config says of it; nil when that is nothing.
func (k *storeSink) platform(ctx context.Context, config ocispec.Descriptor) (*ocispec.Platform, error) {
	body, err := manifest.Read(ctx, k.store, config)
	if err != nil {
		return nil, err
	}
	var p ocispec.Platform
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, errdefs.InvalidArgument("decode config %s: %w", config.Digest, err)
	}
	if p.OS == "" && p.Architecture == "" {
		return nil, nil
	}
	return &p, nil
}
