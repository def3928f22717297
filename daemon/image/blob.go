package image

import (
	"bytes"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
)

// maxDocument bounds manifests, indexes and configs, in bytes. The distribution
// specification asks for at least 4 MiB.
const maxDocument = 8 << 20

// readBlob returns a small blob whole.
func (s *Service) readBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if p := s.blobs.get(desc.Digest); p != nil {
		return p, nil
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, errdefs.InvalidArgument("blob %q: %w", desc.Digest, err)
	}
	ra, err := s.Content.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	if ra.Size() > maxDocument {
		return nil, errdefs.ResourceExhausted("blob %s: %d bytes, a document may have %d", desc.Digest, ra.Size(), maxDocument)
	}
	p := make([]byte, ra.Size())
	if n, err := ra.ReadAt(p, 0); n < len(p) {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	s.blobs.put(desc.Digest, p)
	return p, nil
}

// readJSON decodes a small blob.
func (s *Service) readJSON(ctx context.Context, desc ocispec.Descriptor, into any) error {
	p, err := s.readBlob(ctx, desc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(p, into); err != nil {
		return errdefs.InvalidArgument("decode %s: %w", desc.Digest, err)
	}
	return nil
}

// writeBlob keeps a small blob under labels; one that is there already gets them too.
func (s *Service) writeBlob(ctx context.Context, desc ocispec.Descriptor, p []byte, labels map[string]string) error {
	unlock, err := s.documents.Lock(ctx, desc.Digest.String())
	if err != nil {
		return err
	}
	defer unlock() // the ingest is one, two pulls may want the same document
	ref := oncePrefix + "image-" + desc.Digest.String()
	if err := s.copyBlob(ctx, ref, desc, bytes.NewReader(p), labels); err != nil {
		s.abort(ctx, ref)
		return fmt.Errorf("write blob %s: %w", desc.Digest, err)
	}
	return nil
}

// writeJSON keeps the encoding of v and returns its descriptor.
func (s *Service) writeJSON(ctx context.Context, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	p, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(p), Size: int64(len(p))}
	return desc, s.writeBlob(ctx, desc, p, labels)
}

// copyBlob writes r as the ingest ref, from its start, and commits it as desc, whose
// size and digest may be unknown.
func (s *Service) copyBlob(ctx context.Context, ref string, desc ocispec.Descriptor, r io.Reader, labels map[string]string) error {
	w, err := s.Content.Writer(ctx, content.WriterOptions{Ref: ref, Desc: desc})
	if errdefs.IsAlreadyExists(err) {
		return s.adopt(ctx, desc.Digest, labels)
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if st, err := w.Status(); err != nil {
		return err
	} else if st.Offset > 0 {
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	err = w.Commit(ctx, desc.Size, desc.Digest, labels)
	if errdefs.IsAlreadyExists(err) {
		return s.adopt(ctx, w.Digest(), labels)
	}
	return err
}

// adopt holds a blob that is there already under the lease of ctx and adds labels to it.
func (s *Service) adopt(ctx context.Context, d digest.Digest, labels map[string]string) error {
	if id := lease.From(ctx); id != "" {
		if err := s.hold(ctx, id, "content", d.String()); err != nil {
			return err
		}
	}
	return s.addBlobLabels(ctx, d, labels)
}

// addBlobLabels sets those labels that the blob does not have yet. NotFound when the
// blob has gone.
func (s *Service) addBlobLabels(ctx context.Context, d digest.Digest, labels map[string]string) error {
	info, err := s.Content.Info(ctx, d)
	if err != nil {
		return err
	}
	var paths []string
	for k, v := range labels {
		if info.Labels[k] != v {
			paths = append(paths, "labels."+k)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	_, err = s.Content.Update(ctx, content.Info{Digest: d, Labels: labels}, paths...)
	return err
}

// hasBlob says whether the store has the blob.
func (s *Service) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := s.Content.Info(ctx, d)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// blobReader reads a blob from its start; it also yields a clear error for a short one.
func (s *Service) blobReader(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := s.Content.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(ra, 0, ra.Size()), ra}, nil
}

// blobCache keeps the latest small documents by digest; what it holds never changes.
// Safe for concurrent use.
type blobCache struct {
	entries, maxSize int

	mu    sync.Mutex
	order *list.List                      // guarded by mu; of digest.Digest, latest first
	items map[digest.Digest]*list.Element // guarded by mu
	body  map[digest.Digest][]byte        // guarded by mu
}

func newBlobCache(entries, maxSize int) *blobCache {
	return &blobCache{entries: entries, maxSize: maxSize, order: list.New(),
		items: map[digest.Digest]*list.Element{}, body: map[digest.Digest][]byte{}}
}

func (c *blobCache) get(d digest.Digest) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[d]; ok {
		c.order.MoveToFront(e)
	}
	return c.body[d]
}

func (c *blobCache) put(d digest.Digest, p []byte) {
	if len(p) > c.maxSize {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[d]; ok {
		return
	}
	c.items[d], c.body[d] = c.order.PushFront(d), p
	if c.order.Len() > c.entries {
		c.dropLocked(c.order.Back().Value.(digest.Digest))
	}
}

func (c *blobCache) drop(d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(d)
}

func (c *blobCache) dropLocked(d digest.Digest) {
	if e, ok := c.items[d]; ok {
		c.order.Remove(e)
		delete(c.items, d)
		delete(c.body, d)
	}
}

var errStop = errors.New("stop walking")
