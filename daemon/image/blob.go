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
	coremanifest "gantry/libctr/core/manifest"
)

// readBlob returns a small blob whole.
func (s *Service) readBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if p := s.blobs.get(desc.Digest); p != nil {
		return p, nil
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, errdefs.InvalidArgument("blob %q: %w", desc.Digest, err)
	}
	p, err := coremanifest.Read(ctx, s.Content, desc)
	if err != nil {
		return nil, err
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
	return content.AddLabels(ctx, s.Content, d, labels)
}

// hasBlob says whether the store has the blob.
func (s *Service) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := s.Content.Info(ctx, d)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
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
