package image

import (
	"context"
	"fmt"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/lease"
)

// leaseLife is how long an operation that was interrupted keeps what it has fetched
// for its next try, unless image prune comes first.
const leaseLife = 8 * time.Hour

const undoTime = 10 * time.Second

// underLease returns ctx under a new lease and what ends it. When keep is set and ctx
// has been cancelled, or the daemon has died, the lease stays until it expires, so that
// a pull can be resumed.
func (s *Service) underLease(ctx context.Context, keep bool) (context.Context, func(), error) {
	labels := map[string]string{
		labelPrunable: "true",
		labelExpire:   time.Now().Add(leaseLife).UTC().Format(time.RFC3339),
	}
	if keep {
		labels[labelResumable] = "true"
	}
	l, err := s.Leases.Create(ctx, "", labels)
	if err != nil {
		return nil, nil, fmt.Errorf("create lease: %w", err)
	}
	failpoint.Hit("daemon/image.lease.created")
	s.held.add(l.ID, func() { s.dropLease(ctx, l.ID) })
	return lease.With(ctx, l.ID), func() {
		if keep && ctx.Err() != nil {
			s.held.keep(l.ID)
		}
		s.held.release(l.ID)
	}, nil
}

// dropLease deletes a lease, even when ctx has ended.
func (s *Service) dropLease(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := s.Leases.Delete(ctx, id, false); err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "delete lease", "lease", id, "err", err)
	}
	failpoint.Hit("daemon/image.lease.deleted")
}

// holdImage adds everything of an image that is in the store to the lease of ctx.
func (s *Service) holdImage(ctx context.Context, target ocispec.Descriptor) error {
	id := lease.From(ctx)
	if id == "" {
		return nil
	}
	return s.walk(ctx, target, func(d ocispec.Descriptor) error {
		ok, err := s.hasBlob(ctx, d.Digest)
		if err != nil || !ok {
			return err
		}
		return s.hold(ctx, id, "content", d.Digest.String())
	})
}

func (s *Service) hold(ctx context.Context, leaseID, kind, id string) error {
	err := s.Leases.AddResource(ctx, leaseID, lease.Resource{Type: kind, ID: id})
	if err != nil {
		return fmt.Errorf("hold %s %s: %w", kind, id, err)
	}
	return nil
}

// holdSnapshot adds a snapshot to the lease of ctx.
func (s *Service) holdSnapshot(ctx context.Context, key string) error {
	if id := lease.From(ctx); id != "" {
		return s.hold(ctx, id, s.snapshotType(), key)
	}
	return nil
}

// snapshotType is what leases call a snapshot.
func (s *Service) snapshotType() string { return "snapshots/" + s.cfg.Snapshotter }

// leaseSet counts who works under the leases of this process; the last to leave drops
// a lease. Prune leaves those alone that are in it. The zero value is ready.
type leaseSet struct {
	mu sync.Mutex
	by map[string]*heldLease // guarded by mu
}

type heldLease struct {
	users int
	drop  func() // nil when the lease is to stay until it expires
}

func (l *leaseSet) add(id string, drop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]*heldLease{}
	}
	l.by[id] = &heldLease{users: 1, drop: drop}
}

// use adds a user of a lease that has one; an unknown id is fine.
func (l *leaseSet) use(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.by[id]; h != nil {
		h.users++
	}
}

func (l *leaseSet) keep(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.by[id]; h != nil {
		h.drop = nil
	}
}

func (l *leaseSet) release(id string) {
	l.mu.Lock()
	h := l.by[id]
	if h == nil {
		l.mu.Unlock()
		return
	}
	h.users--
	last := h.users == 0
	if last {
		delete(l.by, id)
	}
	l.mu.Unlock()
	if last && h.drop != nil {
		h.drop()
	}
}

func (l *leaseSet) running(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[id] != nil
}
