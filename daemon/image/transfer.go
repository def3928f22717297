package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/daemon/registry"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
)

// transfers are the downloads under way: one per blob, however many pulls want it, and
// as many at a time as the daemon may have. Safe for concurrent use.
type transfers struct {
	s     *Service
	slots *slots

	mu sync.Mutex
	by map[digest.Digest]*transfer // guarded by mu
}

func newTransfers(s *Service, limit int) *transfers {
	return &transfers{s: s, slots: newSlots(limit), by: map[digest.Digest]*transfer{}}
}

// waiter is one pull that wants a blob.
type waiter struct {
	lease string
	count func(current, total int64) // told of progress; must not block
}

// transfer is one download. It ends when the blob is there or can't be had, or when
// the last pull that wants it has left; done is closed then.
type transfer struct {
	desc   ocispec.Descriptor
	repo   *registry.Repository
	labels map[string]string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed

	waiters map[*waiter]struct{} // guarded by transfers.mu; nil once it has ended
}

// fetch returns when the blob is in the store and held by w's lease.
func (t *transfers) fetch(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor, labels map[string]string, count func(current, total int64)) error {
	w := &waiter{lease: lease.From(ctx), count: count}
	for {
		x := t.join(ctx, repo, desc, labels, w)
		select {
		case <-x.done:
		case <-ctx.Done():
			t.leave(x, w)
			return ctx.Err()
		}
		if x.err == nil || ctx.Err() != nil || x.repo == repo {
			return x.err
		}
		// Another pull's repository or credentials failed; ours may not.
	}
}

// join adds w to the transfer of the blob, which it starts if there is none.
func (t *transfers) join(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor, labels map[string]string, w *waiter) *transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.by[desc.Digest]; x != nil {
		x.waiters[w] = struct{}{}
		return x
	}
	// The transfer keeps the values of the first pull's context, its lease among them,
	// but lives as long as anyone waits; so must the lease.
	t.s.held.use(w.lease)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	x := &transfer{desc: desc, repo: repo, labels: labels, cancel: cancel, done: make(chan struct{}),
		waiters: map[*waiter]struct{}{w: {}}}
	t.by[desc.Digest] = x
	go t.run(run, x)
	return x
}

// leave takes w away; the last one out ends the transfer and waits for its end, so that
// nothing is written once the pull has returned.
func (t *transfers) leave(x *transfer, w *waiter) {
	t.mu.Lock()
	delete(x.waiters, w)
	last := len(x.waiters) == 0
	if last && t.by[x.desc.Digest] == x {
		delete(t.by, x.desc.Digest)
	}
	t.mu.Unlock()
	if last {
		x.cancel()
		<-x.done
	}
}

// run is the transfer's goroutine; closing done ends it.
func (t *transfers) run(ctx context.Context, x *transfer) {
	defer close(x.done)
	defer x.cancel()
	defer t.s.held.release(lease.From(ctx))
	err := t.download(ctx, x)
	// Every pull that waits must hold the blob before the first one lets go of its lease.
	held := map[string]bool{"": true, lease.From(ctx): true}
	for {
		for _, w := range t.waiting(x) {
			if err == nil && !held[w.lease] {
				err = t.s.hold(ctx, w.lease, "content", x.desc.Digest.String())
			}
			held[w.lease] = true
		}
		if t.end(x, held) {
			x.err = err
			return
		}
	}
}

func (t *transfers) waiting(x *transfer) []*waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*waiter, 0, len(x.waiters))
	for w := range x.waiters {
		out = append(out, w)
	}
	return out
}

// end closes the transfer to newcomers unless some have come whose lease is not among
// the seen ones.
func (t *transfers) end(x *transfer, seen map[string]bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range x.waiters {
		if !seen[w.lease] {
			return false
		}
	}
	if t.by[x.desc.Digest] == x {
		delete(t.by, x.desc.Digest)
	}
	return true
}

func (t *transfers) tell(x *transfer, current int64) {
	for _, w := range t.waiting(x) {
		if w.count != nil {
			w.count(current, x.desc.Size)
		}
	}
}

// download tries until the blob is there, with a pause that doubles, each time from
// where the last try ended.
func (t *transfers) download(ctx context.Context, x *transfer) error {
	if err := t.slots.acquire(ctx); err != nil {
		return err
	}
	defer t.slots.release()
	pause := t.s.cfg.RetryDelay
	for attempt := 1; ; attempt++ {
		err := t.attempt(ctx, x)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if attempt >= int(t.s.attempts.Load()) || !again(err) {
			return fmt.Errorf("download %s: %w", x.desc.Digest, err)
		}
		t.s.log.InfoContext(ctx, "download interrupted, trying again", "blob", x.desc.Digest, "attempt", attempt, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause *= 2
	}
}

// again says whether another attempt may help. The class tells of the core's errors:
// a blob with the wrong digest, or an ingest that another client of the core holds.
func again(err error) bool {
	if errors.As(err, new(noRoom)) {
		return false
	}
	return registry.Temporary(err) || errdefs.IsFailedPrecondition(err) || errdefs.Class(err) == errdefs.ErrUnavailable
}

// noRoom is of a core that has no more room: a registry's own shortage passes.
type noRoom struct{ error }

func (e noRoom) Unwrap() error { return e.error }

func ofCore(err error) error {
	if errdefs.Class(err) == errdefs.ErrResourceExhausted {
		return noRoom{err}
	}
	return err
}

// ingest is a content.Writer that marks its shortage.
type ingest struct{ content.Writer }

func (w ingest) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	return n, ofCore(err)
}

// stall is how long a registry may send nothing before the attempt is given up.
const stall = time.Minute

func (t *transfers) attempt(ctx context.Context, x *transfer) error {
	ref := "layer-" + x.desc.Digest.String() // containerd's clients call it so, too
	w, err := t.s.Content.Writer(ctx, content.WriterOptions{Ref: ref, Desc: x.desc})
	if errdefs.IsAlreadyExists(err) {
		return t.s.adopt(ctx, x.desc.Digest, x.labels)
	}
	if err != nil {
		return fmt.Errorf("open ingest: %w", ofCore(err))
	}
	defer w.Close()
	if err := t.copy(ctx, x, ingest{w}); err != nil {
		return err
	}
	err = w.Commit(ctx, x.desc.Size, x.desc.Digest, x.labels)
	switch {
	case errdefs.IsAlreadyExists(err):
		return t.s.adopt(ctx, x.desc.Digest, x.labels)
	case errdefs.IsFailedPrecondition(err): // wrong content: begin anew
		w.Close()
		t.s.abort(ctx, ref)
	}
	return ofCore(err)
}

// copy continues the ingest from where it is.
func (t *transfers) copy(ctx context.Context, x *transfer, w content.Writer) error {
	st, err := w.Status()
	if err != nil {
		return err
	}
	if st.Offset == x.desc.Size {
		return nil
	}
	if st.Offset > x.desc.Size {
		st.Offset = 0
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, start, err := x.repo.Blob(ctx, x.desc, st.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	if start != st.Offset { // the server knows no ranges
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing received for %s", stall)) })
	defer watch.Stop()
	n, err := io.Copy(w, &countedReader{r: io.LimitReader(body, x.desc.Size-start+1), count: func(n int64) {
		watch.Reset(stall)
		t.tell(x, min(start+n, x.desc.Size))
	}})
	switch {
	case err != nil && context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case start+n < x.desc.Size:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// countedReader tells after each read how much has come in all.
type countedReader struct {
	r     io.Reader
	n     int64
	count func(n int64)
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); n > 0 {
		c.count(c.n)
	}
	return n, err
}
