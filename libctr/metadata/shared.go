package metadata

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/label"
)

// labelShareable is the label of a namespace whose blobs others may have by their
// digest, whatever Options.Isolated says.
const labelShareable = "containerd.io/namespace.shareable"

// share returns the writer of a blob that the backend has for another namespace, if this
// one may have it without writing it and if its size is the announced one; nil if not.
func (s *contentStore) share(ctx context.Context, ns, ref string, desc ocispec.Descriptor) (content.Writer, error) {
	if desc.Digest == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	if may, err := s.mayShare(desc.Digest); err != nil || !may {
		return nil, err
	}
	leave, err := s.db.lanes.enter(ctx, desc.Digest.String())
	if err != nil {
		return nil, err
	}
	defer leave()
	info, err := s.backend.Info(ctx, desc.Digest)
	if errdefs.IsNotFound(err) || err == nil && desc.Size != 0 && desc.Size != info.Size {
		return nil, nil //nolint:nilnil // it is to be written
	}
	if err != nil {
		return nil, err
	}
	desc.Size = info.Size
	s.hold(desc.Digest, 1) // until Close
	return &sharedWriter{store: s, open: ctx, ns: ns, ref: ref, desc: desc, started: s.db.now().UTC()}, nil
}

func (s *contentStore) mayShare(d digest.Digest) (may bool, err error) {
	if !s.isolated {
		return true, nil
	}
	err = s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			labels, blobs := bucket(tx, string(ns), bucketLabels), bucket(tx, string(ns), bucketContent)
			if labels != nil && blobs != nil && string(labels.Get([]byte(labelShareable))) == "true" {
				may = may || blobs.Get([]byte(d)) != nil
			}
			return nil
		})
	})
	return may, err
}

// hold counts the writers that would have a blob by its digest: the collector leaves it.
func (s *contentStore) hold(d digest.Digest, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil {
		s.shared = make(map[digest.Digest]int)
	}
	if s.shared[d] += by; s.shared[d] == 0 {
		delete(s.shared, d)
	}
}

func (s *contentStore) sharing(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared[d] > 0
}

// sharedWriter begins with all of the blob written. When it is to be written to, or
// begun again, it becomes an ingest of its own.
type sharedWriter struct {
	store            *contentStore
	open             context.Context // of Writer
	ns, ref          string
	desc             ocispec.Descriptor // with the blob's size
	started          time.Time
	own              content.Writer // nil as long as the blob is the backend's
	closed, recorded bool
}

var _ content.Writer = (*sharedWriter)(nil)

func (w *sharedWriter) Write(p []byte) (int, error) {
	if len(p) == 0 && w.own == nil {
		return 0, nil
	}
	if err := w.unshare(w.desc.Size); err != nil {
		return 0, err
	}
	return w.own.Write(p)
}

func (w *sharedWriter) Truncate(size int64) error {
	if w.own != nil {
		return w.own.Truncate(size)
	}
	if size != 0 {
		return errdefs.InvalidArgument("truncate %q to %d: only to 0 is possible: invalid argument", w.ref, size)
	}
	return w.unshare(0)
}

// unshare begins an ingest with the first bytes of the blob.
func (w *sharedWriter) unshare(size int64) error {
	if w.own != nil {
		return nil
	}
	own, err := w.store.ingest(w.open, w.ns, content.WriterOptions{Ref: w.ref})
	if err != nil {
		return err
	}
	if err := w.copyTo(own, size); err != nil {
		own.Close()
		return fmt.Errorf("copy content %v to %q: %w", w.desc.Digest, w.ref, err)
	}
	w.own = own
	return nil
}

func (w *sharedWriter) copyTo(own content.Writer, size int64) error {
	if err := own.Truncate(0); err != nil || size == 0 {
		return err
	}
	ra, err := w.store.backend.ReaderAt(w.open, w.desc)
	if err != nil {
		return err
	}
	defer ra.Close()
	_, err = io.Copy(own, io.NewSectionReader(ra, 0, size))
	return err
}

func (w *sharedWriter) Digest() digest.Digest {
	if w.own != nil {
		return w.own.Digest()
	}
	return w.desc.Digest
}

func (w *sharedWriter) Status() (content.Status, error) {
	if w.own != nil {
		return w.own.Status()
	}
	return content.Status{
		Ref: w.ref, Offset: w.desc.Size, Total: w.desc.Size, Expected: w.desc.Digest, StartedAt: w.started, UpdatedAt: w.started,
	}, nil
}

func (w *sharedWriter) Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	if w.own != nil {
		return w.own.Commit(ctx, size, expected, labels)
	}
	if err := label.Validate(labels); err != nil {
		return fmt.Errorf("info.Labels: %w", err)
	}
	if size != 0 && size != w.desc.Size {
		return errdefs.FailedPrecondition("%q failed size validation: %d != %d: failed precondition", w.ref, w.desc.Size, size)
	}
	if expected != "" && expected != w.desc.Digest {
		return errdefs.FailedPrecondition("%q unexpected digest: failed precondition", w.ref)
	}
	ctx = inheritLease(ctx, w.open)
	leave, err := w.store.db.lanes.enter(ctx, w.desc.Digest.String())
	if err != nil {
		return err
	}
	defer leave()
	existed, err := w.store.record(ctx, w.ns, content.Info{Digest: w.desc.Digest, Size: w.desc.Size, Labels: label.Clean(labels)})
	w.recorded = err == nil
	if err == nil && existed {
		err = errdefs.AlreadyExists("content %v: already exists", w.desc.Digest)
	}
	return err
}

func (w *sharedWriter) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.store.hold(w.desc.Digest, -1)
	if !w.recorded {
		w.store.spill() // it may be nobody's now
	}
	if w.own != nil {
		return w.own.Close()
	}
	return nil
}
