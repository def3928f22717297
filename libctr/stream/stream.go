// Package stream keeps the streams that clients have opened until a call uses them. A
// stream is forgotten when its client's call ends, when the core closes it, or by
// Sweep when the lease that it was opened under is gone.
package stream

import (
	"context"
	"errors"
	"sync"

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
	mu      sync.Mutex
	streams map[key]*entry // guarded by mu
	count   map[string]int // guarded by mu: by namespace
}

// NewManager returns an empty one.
func NewManager() *Manager {
	return &Manager{streams: map[key]*entry{}, count: map[string]int{}}
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

// Sweep ends the streams whose lease is not there any more. Streams without a lease live
// as long as their client.
func (m *Manager) Sweep(ctx context.Context, leases lease.Manager) error {
	held := m.leased()
	var errs []error
	for ns, streams := range held {
		ctx := reqctx.WithNamespace(ctx, ns)
		list, err := leases.List(ctx)
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
func (m *Manager) leased() map[string][]*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]*entry{}
	for k, e := range m.streams {
		if e.lease != "" {
			out[k.namespace] = append(out[k.namespace], e)
		}
	}
	return out
}
