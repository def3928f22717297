// Package task runs the core's tasks: it keeps their bundles, launches and finds
// again their shims, and passes the task API on to them.
//
// A bundle is a directory under the state directory, and a work directory beside
// the root that outlives the boot no longer than the bundle:
//
//	<state>/<namespace>/<id>/
//	    config.json       the runtime spec, JSON, as the container's record has it
//	    rootfs/           where a shim may mount the root; empty otherwise
//	    work              symlink to <root>/<namespace>/<id>
//	    log               fifo: the shim's own log, read by the core
//	    shim-binary-path  text: the shim's binary, for the delete call
//	    bootstrap.json    {"version","address","protocol"}: how to reach the shim
//	    sandbox           text: the sandbox whose shim the task has joined
//	    mounts            empty: mounts were activated for the task, see activate
//	    shim.pid          text: the shim's process, as its start has noted it
//	    init.pid          text: the init, as the shim has noted it
//	    .NAME             a bundle or file on its way in or out
//
// A shim is launched by the runtime v2 protocol: the binary is run with "start",
// gets a BootstrapParams message on stdin, prints where it listens and ends; what
// serves is a child that pid 1 has adopted. One ttrpc connection per shim carries
// the task API. When it is lost the shim is dialled again; when nothing listens
// any more the shim is dead: its binary is run with "delete", an exit event is
// published if the shim had published none, and the bundle goes.
//
// Calls never wait for each other: a lookup takes Manager.mu for a map access
// only, and every call to a shim has a deadline but Wait, and the first question to a
// shim that did not answer when it was found. Lock order: Manager.mu,
// then shim.mu; neither is held across I/O.
package task

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"gantry/api/errdefs"
	"gantry/api/keylock"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/core/task"
	"gantry/libctr/identifier"
)

// Deadlines of calls to shims. A shim that runs hooks may take its time to create
// and start; what only looks must answer at once.
const (
	answerTimeout   = 2 * time.Second
	helloTimeout    = 250 * time.Millisecond // the first answer of a shim found at start; a later one is listened for
	burialTimeout   = 2 * time.Second        // start waits no longer for a dead shim's clean-up
	callTimeout     = 10 * time.Second
	killTimeout     = 5 * time.Second  // a KILL of the init, then answerTimeout for another sign of life
	deathTimeout    = 5 * time.Second  // from the kill of a shim to the end of its task
	startTimeout    = 2 * time.Minute  // Create, Start
	deleteTimeout   = 30 * time.Second // Delete: runs poststop hooks
	launchTimeout   = 1 * time.Minute
	dumpTimeout     = 10 * time.Minute        // Checkpoint
	shutdownWait    = time.Second             // for a shim to end that has said it will
	leftTimeout     = 5 * time.Second         // for the shim of a run before to end, once it has no task
	farewellTimeout = 30 * time.Second        // for our shim to end when its task is deleted; readers that are behind have 10 s of it
	binaryTimeout   = 10 * time.Second        // the delete call of a shim binary
	exitWithin      = 1500 * time.Millisecond // from the death of a shim to its exit event, at most
)

// Timeouts bound calls that others may come to wait for. What is 0 is the usual.
type Timeouts struct {
	Load     time.Duration // for a shim found at start to take the connection; 2 s
	State    time.Duration // for the state of a process; 2 s
	Cleanup  time.Duration // for the Delete after a failed Create; 5 s
	Shutdown time.Duration // for the answer of a shim that is asked to end; 3 s
}

func (t Timeouts) orUsual() Timeouts {
	return Timeouts{
		Load:     cmp.Or(t.Load, 2*time.Second),
		State:    cmp.Or(t.State, 2*time.Second),
		Cleanup:  cmp.Or(t.Cleanup, 5*time.Second),
		Shutdown: cmp.Or(t.Shutdown, 3*time.Second),
	}
}

// undo is how long the undo of a failed Create may take.
func (t Timeouts) undo() time.Duration { return t.Cleanup + t.Shutdown + binaryTimeout }

// Containers looks up the records that tasks are made of.
type Containers interface {
	Get(ctx context.Context, id string) (container.Container, error)
}

// Events takes what the manager itself has to tell, and what shims tell it.
type Events interface {
	event.Publisher
	event.Forwarder
}

// Config is what a Manager needs.
type Config struct {
	Root, State  string // its own directories, made by New
	Address      string // of the core's gRPC socket, for shims
	TTRPCAddress string // where shims send their events
	Binary       string // the core's executable, for shims that call its publish command
	ShimDir      string // searched for shims before PATH
	SocketDir    string // where shims may put their sockets; "" is their own choice
	Version      string // of the core, for shims
	Debug        bool   // shims log in detail
	// ShimEnv is added to the environment of shims, NAME=VALUE. SCHED_CORE=1 makes them
	// share no core of the CPU with others (core scheduling).
	ShimEnv []string
	// Aliases are names of runtimes that stand for others.
	Aliases  map[string]string
	Timeouts Timeouts

	Containers Containers
	Mounts     Mounts // nil for none: shims then get mounts as they are
	Events     Events
	Log        *slog.Logger
	Tracing    trace.TracerProvider // makes a span of every launch and call; nil makes none
}

// Manager runs tasks in the namespace of the context. Safe for concurrent use.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	tracer   trace.Tracer
	info     infoCache
	old      oldShims
	trash    trash
	programs programs
	homes    homes
	lanes    keylock.Locks // of groups under foreign shims

	life context.Context // of what the manager does by itself; ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // reconnections and burials under way

	mu      sync.Mutex
	shims   map[key]*shim         // guarded by mu; nil while a task is being created
	making  map[key]chan struct{} // guarded by mu; closed when that has ended
	closed  bool                  // guarded by mu
	leaving map[key]*child        // guarded by mu; shims without a task that have not ended yet
}

var _ task.Manager = (*Manager)(nil)

type key struct{ ns, id string }

// New makes the directories and adopts the shims that still run; what is left of
// dead ones is removed. A shim that does not answer is adopted all the same.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	for _, dir := range []string{cfg.Root, cfg.State} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.ShimDir == "" {
		if self, err := os.Executable(); err == nil {
			cfg.ShimDir = filepath.Dir(self)
		}
	}
	cfg.Timeouts = cfg.Timeouts.orUsual()
	if cfg.Tracing == nil {
		cfg.Tracing = noop.NewTracerProvider()
	}
	m := &Manager{cfg: cfg, log: cfg.Log, tracer: cfg.Tracing.Tracer("gantry/libctr/task"), shims: map[key]*shim{}, making: map[key]chan struct{}{}, leaving: map[key]*child{}}
	m.life, m.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.reload(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close lets go of the shims, which go on, and waits for what the manager was
// doing on its own.
func (m *Manager) Close() error {
	m.end()
	m.mu.Lock()
	m.closed = true
	var all []*shim
	for _, s := range m.shims {
		if s != nil {
			all = append(all, s)
		}
	}
	m.mu.Unlock()
	for _, s := range all {
		s.leave()
	}
	m.work.Wait()
	m.programs.close()
	return nil
}

// background runs fn unless the manager is closed; Close waits for it.
func (m *Manager) background(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.work.Go(fn)
	}
}

func keyOf(ctx context.Context, id string) (key, error) {
	ns := reqctx.Namespace(ctx)
	if ns == "" {
		return key{}, errdefs.FailedPrecondition("namespace is required: failed precondition")
	}
	if err := identifier.Validate(ns); err != nil { // it becomes a directory
		return key{}, errdefs.InvalidArgument("namespace validation: %w", err)
	}
	return key{ns, id}, nil
}

// reserve takes the id for a task that is being created.
func (m *Manager) reserve(k key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errdefs.Unavailable("task %s: the core is stopping", k.id)
	}
	if _, taken := m.shims[k]; taken {
		return errdefs.AlreadyExists("task %s: already exists", k.id)
	}
	m.shims[k] = nil
	m.making[k] = make(chan struct{})
	return nil
}

func (m *Manager) set(k key, s *shim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shims[k] = s
	m.made(k)
}

func (m *Manager) drop(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.shims, k)
	m.made(k)
}

// made lets those go on who wait for the end of a create; m.mu is held.
func (m *Manager) made(k key) {
	if done, ok := m.making[k]; ok {
		delete(m.making, k)
		close(done)
	}
}

// underway is closed when the create of k that is going on has ended; nil when there is none.
func (m *Manager) underway(k key) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.making[k]
}

func (m *Manager) find(k key) *shim {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shims[k]
}

// get returns the shim of a task, for whose create it waits as long as a shim may take to
// tell its state: a client's stdin may end before its create has been answered. Without one
// the container's record decides the text: a client is told which of the two is missing.
func (m *Manager) get(ctx context.Context, id string) (*shim, error) {
	k, err := keyOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if created := m.underway(k); created != nil {
		bound := time.NewTimer(m.cfg.Timeouts.State)
		defer bound.Stop()
		select {
		case <-created:
		case <-bound.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s := m.find(k); s != nil && !s.boot.Sandbox {
		return s, nil
	}
	if _, err := m.cfg.Containers.Get(ctx, id); err != nil {
		return nil, err
	}
	return nil, errdefs.NotFound("task %s not found", id)
}

// inNamespace returns the shims of the namespace of ctx, in no order.
func (m *Manager) inNamespace(ctx context.Context) ([]*shim, error) {
	k, err := keyOf(ctx, "")
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*shim
	for other, s := range m.shims {
		if other.ns == k.ns && s != nil && !s.boot.Sandbox {
			out = append(out, s)
		}
	}
	return out, nil
}
