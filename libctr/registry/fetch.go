package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/manifest"
)

// Fetcher opens blobs of one repository. Safe for concurrent use.
type Fetcher struct {
	remote remotes.Fetcher
	log    *slog.Logger
}

// How often a fetch that gets no further is tried again, and after what wait; twice as
// long each time.
const (
	attempts  = 5
	firstWait = 200 * time.Millisecond
)

// Fetch brings the blob into the store, from where an earlier fetch of it has got to.
// A blob that is there already is AlreadyExists; one that another fetch is bringing is
// waited for. labels are the new blob's. got hears how far it is; nil for nobody.
//
// Addresses that the descriptor has of the blob are not asked: whoever has written it
// would have the core send requests wherever he likes, beside all that bounds a registry.
func (f *Fetcher) Fetch(ctx context.Context, store content.Store, d ocispec.Descriptor, labels map[string]string, got func(offset int64)) error {
	if err := check(d); err != nil {
		return err
	}
	ctx, d.URLs = quiet(ctx, f.log), nil
	for fresh := false; ; fresh = true {
		resumed, err := f.fetch(ctx, store, d, labels, got)
		// What was resumed may have been wrong already: then once more from the start.
		if resumed && !fresh && errdefs.IsFailedPrecondition(err) {
			f.log.WarnContext(ctx, "resumed fetch is wrong, starting over", "digest", d.Digest, "err", err)
			continue
		}
		return err
	}
}

// fetch says whether it went on with what was there. What turns out not to be the blob is
// dropped.
func (f *Fetcher) fetch(ctx context.Context, store content.Store, d ocispec.Descriptor, labels map[string]string, got func(int64)) (resumed bool, err error) {
	w, err := open(ctx, store, d)
	if err != nil {
		return false, err
	}
	defer func() {
		_ = w.Close()
		if err != nil {
			err = errors.Join(err, leave(ctx, store, w, d, errdefs.IsFailedPrecondition(err)))
		}
	}()
	st, err := w.Status()
	if err != nil {
		return false, err
	}
	if st.Offset < d.Size {
		if err := f.fill(ctx, &heard{w, got, st.Offset}, d, st.Offset); err != nil {
			return st.Offset > 0, fmt.Errorf("fetch %s: %w", d.Digest, err)
		}
	}
	failpoint.Hit("libctr/registry.fetch.filled")
	if err := w.Commit(ctx, d.Size, d.Digest, labels); err != nil && !errdefs.IsAlreadyExists(err) {
		return st.Offset > 0, fmt.Errorf("failed commit on ref %q: %w", manifest.Ref(d), err)
	}
	return false, nil
}

// keepFrom is from how many bytes on what a failed fetch has got is worth to be kept.
const keepFrom = 1 << 20

// leave drops what is known to be wrong. What may be right would go with the lease of ctx;
// opened without one it has its day. The caller's own end hinders neither.
func leave(ctx context.Context, store content.Store, w content.Writer, d ocispec.Descriptor, wrong bool) error {
	ctx = context.WithoutCancel(ctx)
	if wrong {
		if err := store.Abort(ctx, manifest.Ref(d)); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		return nil
	}
	if st, err := w.Status(); err != nil || st.Offset < keepFrom || lease.From(ctx) == "" {
		return nil //nolint:nilerr // then it is not kept
	}
	if free, err := store.Writer(lease.With(ctx, ""), content.WriterOptions{Ref: manifest.Ref(d), Desc: d}); err == nil {
		return free.Close()
	}
	return nil // somebody else goes on with it
}

// open gets hold of the ingest, when somebody else has let go of it.
func open(ctx context.Context, store content.Store, d ocispec.Descriptor) (content.Writer, error) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		w, err := store.Writer(ctx, content.WriterOptions{Ref: manifest.Ref(d), Desc: d})
		if !errors.Is(err, errdefs.ErrUnavailable) {
			return w, err
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// fill writes what lacks from offset on, and asks again for the rest when it is cut off.
func (f *Fetcher) fill(ctx context.Context, w io.Writer, d ocispec.Descriptor, offset int64) error {
	if int64(len(d.Data)) == d.Size {
		_, err := w.Write(d.Data[offset:])
		return err
	}
	wait, failures := firstWait, 0
	for {
		n, err := f.copy(ctx, w, d, offset)
		offset += n
		if err == nil || offset == d.Size && !errdefs.IsFailedPrecondition(err) {
			return nil
		}
		if n > 0 {
			wait, failures = firstWait, 0
		}
		if failures++; failures >= attempts || !temporary(ctx, err) {
			return err
		}
		f.log.InfoContext(ctx, "fetch is cut off, resuming", "digest", d.Digest, "offset", offset, "err", err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
}

var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// copy makes one attempt. A short body is io.ErrUnexpectedEOF, a long one FailedPrecondition.
func (f *Fetcher) copy(ctx context.Context, w io.Writer, d ocispec.Descriptor, offset int64) (int64, error) {
	body, err := f.remote.Fetch(ctx, d)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if offset > 0 {
		if err := skip(body, offset); err != nil {
			return 0, err
		}
	}
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.LimitReader(body, d.Size-offset)}, buf[:])
	switch {
	case err != nil:
		return n, err
	case n < d.Size-offset:
		return n, io.ErrUnexpectedEOF
	}
	return n, past(body)
}

// skip goes to offset: by a request for a range where that is possible.
func skip(body io.Reader, offset int64) error {
	if s, ok := body.(io.Seeker); ok {
		_, err := s.Seek(offset, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, body, offset)
	return err
}

// past checks that nothing follows. A connection that breaks after the last byte is none
// of our business.
func past(body io.Reader) error {
	var one [1]byte
	if n, err := body.Read(one[:]); n > 0 || errdefs.IsFailedPrecondition(err) {
		return errdefs.FailedPrecondition("the registry sends more than the blob's size")
	}
	return nil
}

// temporary says whether asking again may help.
func temporary(ctx context.Context, err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	var network *net.OpError // a redirect to nowhere is a net.Error too
	var timeout interface{ Timeout() bool }
	switch {
	case ctx.Err() != nil, errors.Is(err, docker.ErrInvalidAuthorization), errdefs.Class(err) != nil:
		return false
	case errors.As(err, &status):
		return status.StatusCode >= http.StatusInternalServerError || status.StatusCode == http.StatusTooManyRequests
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, errStalled) ||
		errors.As(err, &network) || errors.As(err, &timeout) && timeout.Timeout()
}

// heard tells how far a writer has got.
type heard struct {
	w   io.Writer
	got func(offset int64)
	at  int64
}

// Write implements io.Writer.
func (h *heard) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.at += int64(n)
	if h.got != nil {
		h.got(h.at)
	}
	return n, err
}
