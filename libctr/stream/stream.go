// Package stream keeps the streams that clients have opened until a call uses them. A
// stream is forgotten when its client's call ends, when the core closes it, or within a
// minute after the lease that it was opened under has gone.
package stream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/stream"
)

// Bounds of what clients may leave open.
const (
	maxPerNamespace = 1024
	maxAll          = 8 * maxPerNamespace
	maxID           = 512 // bytes

	sweepEvery = time.Minute
)

type key struct{ namespace, id string }

type entry struct {
	stream.Stream
	key     key
	lease   string
	manager *Manager
}

// Close implements stream.Stream.
func (e *entry) Close() error {
	e.manager.forget(e)
	return e.Stream.Close()
}

// Manager keeps streams by namespace and id. Safe for concurrent use.
type Manager struct {
	leases lease.Manager
	log    *slog.Logger

	mu      sync.Mutex
	streams map[key]*entry // guarded by mu
	count   map[string]int // guarded by mu: by namespace
	sweeper *time.Timer    // guarded by mu: set while a stream has a lease
}

// NewManager returns an empty one. It asks leases whether they are there still; nil for no
// leases.
func NewManager(leases lease.Manager, log *slog.Logger) *Manager {
	return &Manager{leases: leases, log: log, streams: map[key]*entry{}, count: map[string]int{}}
}

var _ stream.Getter = (*Manager)(nil)

// Register keeps s under id in the namespace, and with the lease, of ctx. The caller calls
// forget when the stream has ended. An id in use is AlreadyExists, too many streams are
// ResourceExhausted.
func (m *Manager) Register(ctx context.Context, id string, s stream.Stream) (forget func(), err error) {
	if id == "" || len(id) > maxID {
		return nil, errdefs.InvalidArgument("a stream needs an id of 1 to %d bytes, not %d", maxID, len(id))
	}
	e := &entry{Stream: s, key: key{reqctx.Namespace(ctx), id}, lease: lease.From(ctx), manager: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[e.key] != nil {
		return nil, errdefs.AlreadyExists("stream %q: already exists", id)
	}
	if m.count[e.key.namespace] >= maxPerNamespace || len(m.streams) >= maxAll {
		return nil, errdefs.ResourceExhausted("too many open streams, namespace %q has %d", e.key.namespace, m.count[e.key.namespace])
	}
	m.streams[e.key] = e
	m.count[e.key.namespace]++
	if e.lease != "" && m.leases != nil && m.sweeper == nil {
		m.sweeper = time.AfterFunc(sweepEvery, m.sweepAgain)
	}
	return func() { m.forget(e) }, nil
}

// Get implements stream.Getter. Closing what it returns ends the stream.
func (m *Manager) Get(ctx context.Context, id string) (stream.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.streams[key{reqctx.Namespace(ctx), id}]; e != nil {
		return e, nil
	}
	return nil, errdefs.NotFound("stream %q: not found", id)
}

// Len is how many streams are open.
func (m *Manager) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

func (m *Manager) forget(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[e.key] != e {
		return
	}
	delete(m.streams, e.key)
	if m.count[e.key.namespace]--; m.count[e.key.namespace] == 0 {
		delete(m.count, e.key.namespace)
	}
}

// sweepAgain sweeps for as long as there are streams with leases.
func (m *Manager) sweepAgain() {
	ctx, cancel := context.WithTimeout(context.Background(), sweepEvery)
	defer cancel()
	if err := m.Sweep(ctx); err != nil {
		m.log.WarnContext(ctx, "sweep streams", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeper = nil
	for _, e := range m.streams {
		if e.lease != "" {
			m.sweeper = time.AfterFunc(sweepEvery, m.sweepAgain)
			return
		}
	}
}

// Close ends what the manager does by itself; streams end with their calls.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sweeper != nil {
		m.sweeper.Stop()
	}
	m.leases = nil
}

// Sweep ends the streams whose lease is not there any more. Streams without a lease live
// as long as their client.
func (m *Manager) Sweep(ctx context.Context) error {
	held, leases := m.leased()
	if leases == nil {
		return nil
	}
	var errs []error
	for ns, streams := range held {
		list, err := leases.List(reqctx.WithNamespace(ctx, ns))
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		there := make(map[string]bool, len(list))
		for _, l := range list {
			there[l.ID] = true
		}
		for _, e := range streams {
			if !there[e.lease] {
				errs = append(errs, e.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// leased are the streams with a lease, by namespace. Those that come while leases are
// listed are not in it: their lease may be as new.
func (m *Manager) leased() (map[string][]*entry, lease.Manager) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]*entry{}
	for k, e := range m.streams {
		if e.lease != "" {
			out[k.namespace] = append(out[k.namespace], e)
		}
	}
	return out, m.leases
}
