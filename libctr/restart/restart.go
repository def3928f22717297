// Package restart keeps containers running, or stopped, as their labels want it:
// clients such as nerdctl leave restart policies to the core.
//
// Every so often the tasks of the containers with such labels are looked at. A
// namespace without any costs nothing until a container in it is made or changed.
package restart

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

// Containers are the records.
type Containers interface {
	Get(ctx context.Context, id string) (container.Container, error)
	List(ctx context.Context, filters ...string) ([]container.Container, error)
	Update(ctx context.Context, c container.Container, fieldpaths ...string) (container.Container, error)
}

// Tasks are what runs.
type Tasks interface {
	Get(ctx context.Context, id, execID string) (task.State, error)
	Create(ctx context.Context, o task.CreateOptions) (uint32, error)
	Start(ctx context.Context, id, execID string) (uint32, error)
	Kill(ctx context.Context, id, execID string, signal uint32, all bool) error
	Wait(ctx context.Context, id, execID string) (task.Exit, error)
	Delete(ctx context.Context, id, execID string) (task.Exit, error)
}

// Events tells of containers that have been made or changed, and is told.
type Events interface {
	event.Subscriber
	event.Publisher
}

// Namespaces lists them.
type Namespaces interface {
	List(ctx context.Context) ([]string, error)
}

// Mounts finds a snapshotter's mounts.
type Mounts interface {
	Mounts(ctx context.Context, snapshotter, key string) ([]mount.Mount, error)
}

// Config is what a Monitor works on.
type Config struct {
	Containers Containers
	Tasks      Tasks
	Events     Events
	Namespaces Namespaces
	Mounts     Mounts
	Interval   time.Duration // between two looks; 0 is 10 s
	Log        *slog.Logger
}

const defaultInterval = 10 * time.Second

// atOnce bounds how many containers are restarted at a time.
const atOnce = 8

// Monitor looks after the containers. See Run.
type Monitor struct {
	cfg Config
	log *slog.Logger
	// watched holds the namespaces that have containers with labels, or may have. Only
	// Run's goroutine uses it.
	watched map[string]bool

	mu   sync.Mutex
	seen map[key]bool // guarded by mu; nil before the first look: see grace
}

type key struct{ ns, id string }

// New returns a monitor that does nothing until Run.
func New(cfg Config) *Monitor {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Monitor{cfg: cfg, log: cfg.Log, watched: map[string]bool{}}
}

// changes are the events after which a namespace is to be looked at.
var changes = []string{`topic=="/containers/create"`, `topic=="/containers/update"`}

// Run looks after the containers until ctx ends. Those whose policy is always are
// first forgiven that somebody has stopped them: that counts until the core's restart.
func (m *Monitor) Run(ctx context.Context) {
	events, lost := m.cfg.Events.Subscribe(ctx, changes...)
	m.watchAll(ctx)
	m.forgive(ctx)
	tick := time.NewTicker(m.cfg.Interval)
	defer tick.Stop()
	for m.reconcile(ctx); ; {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if ok {
				m.watched[e.Namespace] = true
				continue
			}
			events = nil
		case <-lost: // too far behind: anything may have changed
			if ctx.Err() != nil {
				return
			}
			events, lost = m.cfg.Events.Subscribe(ctx, changes...)
			m.watchAll(ctx)
		case <-tick.C:
			m.reconcile(ctx)
		}
	}
}

func (m *Monitor) watchAll(ctx context.Context) {
	names, err := m.cfg.Namespaces.List(ctx)
	if err != nil {
		m.log.ErrorContext(ctx, "list namespaces for restarts", "err", err)
	}
	for _, ns := range names {
		m.watched[ns] = true
	}
}

// labelled lists the containers of the namespace of ctx that are to be looked after.
func (m *Monitor) labelled(ctx context.Context) []container.Container {
	list, err := m.cfg.Containers.List(ctx, fmt.Sprintf("labels.%q", LabelStatus))
	if err != nil {
		m.log.ErrorContext(ctx, "list containers for restarts", "namespace", reqctx.Namespace(ctx), "err", err)
	}
	return list
}

func (m *Monitor) forgive(ctx context.Context) {
	for ns := range m.watched {
		ctx := reqctx.WithNamespace(ctx, ns)
		for _, c := range m.labelled(ctx) {
			p, err := ParsePolicy(c.Labels[LabelPolicy])
			stopped, _ := strconv.ParseBool(c.Labels[LabelStopped])
			if err != nil || p.Name != Always || !stopped {
				continue
			}
			if _, err := m.label(ctx, c, LabelStopped, "false"); err != nil {
				m.log.ErrorContext(ctx, "forget that a container was stopped", "container", c.ID, "err", err)
			}
		}
	}
}

// reconcile looks once at every container in the watched namespaces, and gives up the
// namespaces that have none.
func (m *Monitor) reconcile(ctx context.Context) {
	var work sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for ns := range m.watched {
		ctx := reqctx.WithNamespace(ctx, ns)
		list := m.labelled(ctx)
		if len(list) == 0 {
			delete(m.watched, ns)
		}
		for _, c := range list {
			places <- struct{}{}
			work.Go(func() {
				defer func() { <-places }()
				if err := m.look(ctx, c.ID); err != nil && ctx.Err() == nil {
					m.log.ErrorContext(ctx, "restart container", "namespace", ns, "container", c.ID, "err", err)
				}
			})
		}
	}
	work.Wait()
	m.looked()
}

// grace says whether a container that has no task, or one that was never started, is
// to be left alone until the next look: a client may be about to start it. Not so at
// the first look, when there is no client yet.
func (m *Monitor) grace(ctx context.Context, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := key{reqctx.Namespace(ctx), id}
	if m.seen == nil || m.seen[k] {
		delete(m.seen, k)
		return false
	}
	m.seen[k] = true
	return true
}

func (m *Monitor) looked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[key]bool{}
	}
}
