// Package process runs the init and the execs of a container, on whatever
// runtime: their states, and the order in which their life is told.
//
// Told is: a start before its exit, every exec's exit before the init's, and one
// exit each. A process's lane is held while its start is made and told, and
// while its exit is told.
//
// Lock order: Process.lane, then Task.mu, then Process.mu. The locks cover memory
// only; lanes are held across the runtime's work.
package process

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/runtime/hop"
	"gantry/shim/reaper"
	"gantry/shim/stdio"
)

// Teller is told what happens, in order, and does not block.
type Teller interface {
	Started(exec string, pid int)
	// OutOfMemory comes before the exit of an init that was killed for it.
	OutOfMemory()
	Exited(exec string, e reaper.Exit)
}

// Task is a container and its processes. Safe for concurrent use.
type Task struct {
	id, bundle string
	owner      stdio.Owner
	reaper     *reaper.Reaper
	tell       Teller
	log        *slog.Logger
	sharedPids bool // the init's end does not end the other processes
	init       *Process
	oom        *oomWatch
	probing    chan struct{} // a lane for probes

	mu      sync.Mutex
	c       Container           // guarded by mu
	execs   map[string]*Process // guarded by mu
	opening map[string]bool     // ids of execs whose streams are being opened; guarded by mu
	live    int                 // execs that are being started, run, or whose exit is not told; guarded by mu
	idle    chan struct{}       // closed when the init has ended and live is 0; guarded by mu
	ending  bool                // the init has ended: no exec may start; guarded by mu
}

// Options are what a task is made of.
type Options struct {
	ID, Bundle string
	Namespace  string
	Rootfs     []Mount
	IO         stdio.Spec
	Spec       *specs.Spec // the bundle's
	Config     []byte      // its JSON
	Checkpoint string      // directory that the processes come from when they are started; "" is none
	Runtime    Runtime
	Reaper     *reaper.Reaper
	Tell       Teller
	Log        *slog.Logger
}

// New creates a container whose init waits to be started, or one that is to be restored
// then. On error nothing is left.
func New(ctx context.Context, o Options) (_ *Task, err error) {
	t := &Task{
		id: o.ID, bundle: o.Bundle, reaper: o.Reaper, tell: o.Tell, log: o.Log,
		owner:      stdio.Owner{Namespace: o.Namespace, ID: o.ID, Log: o.Log},
		sharedPids: !ownPids(o.Spec),
		execs:      map[string]*Process{}, idle: make(chan struct{}), probing: make(chan struct{}, 1),
	}
	_, opened := hop.Begin(ctx, "open log and streams")
	io, err := t.openIO(ctx, o.IO)
	opened()
	if err != nil {
		return nil, err
	}
	failpoint.Hit("shim/process.create.streams")
	t.init = newProcess("", io)
	create := CreateOptions{
		ID: o.ID, Bundle: o.Bundle, Spec: o.Spec, Config: o.Config, Rootfs: o.Rootfs, Terminal: o.IO.Terminal, Files: io.Files(), Warn: t.warn,
	}
	if o.Checkpoint != "" {
		t.c = &dormant{rt: o.Runtime, o: create, images: o.Checkpoint}
		t.oom = watchOOM(t.c, t.tell.OutOfMemory, o.Log)
		return t, nil
	}
	var exit <-chan reaper.Exit
	err = t.reaper.Guard(func() error {
		c, started, err := o.Runtime.Create(ctx, create)
		if err != nil {
			return err
		}
		failpoint.Hit("shim/process.create.container")
		t.set(c)
		t.init.born(started.Pid)
		exit = t.reaper.Watch(started.Pid)
		return io.Begin(started.Console)
	})
	if err != nil {
		if exit != nil {
			t.undo(exit)
		}
		io.Close(ctx)
		return nil, err
	}
	failpoint.Hit("shim/process.create.watched")
	t.oom = watchOOM(t.made(), t.tell.OutOfMemory, o.Log)
	go t.awaitInit(exit) // ends with the init
	return t, nil
}

// made is the container as it is by now.
func (t *Task) made() Container {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.c
}

func (t *Task) set(c Container) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c = c
}

// undo takes a container back whose creation failed at the last step.
func (t *Task) undo(exit <-chan reaper.Exit) {
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	if err := t.guarded(func() error { return t.made().Delete(ctx, true) }); err != nil {
		t.log.Warn("delete container after failed create", "err", err)
	}
	select {
	case <-exit:
	case <-ctx.Done():
	}
}

// openIO opens the ends in a guard, since a logging process is forked for it.
func (t *Task) openIO(ctx context.Context, spec stdio.Spec) (io *stdio.IO, err error) {
	err = t.guarded(func() error {
		io, err = stdio.Open(ctx, spec, t.owner)
		return err
	})
	return io, err
}

func (t *Task) guarded(f func() error) error { return t.reaper.Guard(f) }

func (t *Task) warn(msg string) { t.log.Warn("runtime", "container", t.id, "warning", msg) }

// ownPids says whether the container has its own pid namespace, which dies with
// its init.
func ownPids(s *specs.Spec) bool {
	if s == nil || s.Linux == nil {
		return false
	}
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return ns.Path == ""
		}
	}
	return false
}

// ID is the container's.
func (t *Task) ID() string { return t.id }

// Bundle is the container's directory.
func (t *Task) Bundle() string { return t.bundle }

// Process returns the init for "", else an exec. ErrNotFound when there is none.
func (t *Task) Process(exec string) (*Process, error) {
	if exec == "" {
		return t.init, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.execs[exec]; p != nil {
		return p, nil
	}
	return nil, errdefs.NotFound("process %s not found", exec)
}

// Opening says whether an exec is about to be there: its streams are being opened.
func (t *Task) Opening(exec string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opening[exec]
}

// AddExec registers a process to be started later; its streams are open at once.
func (t *Task) AddExec(ctx context.Context, exec string, spec *specs.Process, io stdio.Spec) error {
	if err := t.reserve(exec); err != nil {
		return err
	}
	p, err := t.newExec(ctx, exec, spec, io)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.opening, exec)
	if err == nil {
		t.execs[exec] = p
	}
	return err
}

// reserve takes the id of an exec that is being made.
func (t *Task) reserve(exec string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if exec == "" || t.execs[exec] != nil || t.opening[exec] {
		return errdefs.AlreadyExists("process %q already exists", exec)
	}
	if t.opening == nil {
		t.opening = map[string]bool{}
	}
	t.opening[exec] = true
	return nil
}

func (t *Task) newExec(ctx context.Context, exec string, spec *specs.Process, io stdio.Spec) (*Process, error) {
	if s := t.init.Status().State; s != Running && s != Created {
		return nil, errdefs.FailedPrecondition("cannot exec in a %s container", s)
	}
	spec.Terminal, io.LateStdin = io.Terminal, true
	ends, err := t.openIO(ctx, io)
	if err != nil {
		return nil, err
	}
	p := newProcess(exec, ends)
	p.spec = spec
	return p, nil
}

// Start lets a created process run and tells so.
func (t *Task) Start(ctx context.Context, exec string) (pid int, err error) {
	p, err := t.Process(exec)
	if err != nil {
		return 0, err
	}
	if err := p.enter(ctx); err != nil {
		return 0, err
	}
	defer p.leave()
	if err := p.can(Start); err != nil {
		return 0, err
	}
	if exec != "" {
		return t.startExec(ctx, p)
	}
	if d, ok := t.made().(*dormant); ok {
		return t.restore(ctx, d)
	}
	// Once the init has been let go, it runs: a client that leaves, as an engine that
	// dies does, must not make that a failure.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if err := t.guarded(func() error { return t.made().Start(ctx) }); err != nil {
		t.init.startFailed(failedStart(err)) // if the init ends now, as it should
		return 0, err
	}
	failpoint.Hit("shim/process.start.let-go")
	t.init.startFailed(0)
	return p.pid, t.started(p)
}

// started makes p running and tells. It is called in the lane.
func (t *Task) started(p *Process) error {
	if err := p.move(Start); err != nil {
		return err
	}
	t.tell.Started(p.id, p.pid)
	return nil
}

// failedStart is the exit status of a process that could not be started: a shell's.
func failedStart(err error) int {
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return 127
	case errors.Is(err, errdefs.ErrPermissionDenied):
		return 126
	}
	return 255
}

func (t *Task) startExec(ctx context.Context, p *Process) (int, error) {
	if err := t.enroll(); err != nil {
		p.fail(255)
		p.io.Close(ctx)
		return 0, err
	}
	var exit <-chan reaper.Exit
	err := t.guarded(func() error {
		started, err := t.made().Exec(ctx, ExecOptions{ID: p.id, Spec: p.spec, Files: p.io.Files(), Warn: t.warn})
		if err != nil {
			return err
		}
		failpoint.Hit("shim/process.exec.born")
		p.born(started.Pid)
		exit = t.reaper.Watch(started.Pid)
		return p.io.Begin(started.Console)
	})
	if err != nil && exit != nil { // it runs, and its terminal can't be used
		p.signal(unix.SIGKILL)
		<-exit
	}
	if err != nil {
		p.fail(failedStart(err))
		p.io.Close(ctx)
		t.resign()
		return 0, err
	}
	t.mu.Lock()
	if t.ending { // too late for killRest
		p.signal(unix.SIGKILL) //nolint:errcheck // it may have ended
	}
	t.mu.Unlock()
	failpoint.Hit("shim/process.exec.started")
	go t.awaitExec(p, exit) // ends with the process
	return p.pid, t.started(p)
}

// enroll counts an exec whose exit must be told before the init's.
func (t *Task) enroll() error {
	switch s := t.init.Status().State; {
	case s == Paused:
		return errdefs.FailedPrecondition("cannot exec in a paused container")
	case s != Running && s != Created:
		return errdefs.FailedPrecondition("cannot exec in a %s container", s)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return errdefs.FailedPrecondition("cannot exec in a stopped container")
	}
	t.live++
	return nil
}

func (t *Task) resign() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live--
	if t.ending && t.live == 0 {
		close(t.idle)
	}
}

// awaitExec tells an exec's exit.
func (t *Task) awaitExec(p *Process, exit <-chan reaper.Exit) {
	e := <-exit
	failpoint.Hit("shim/process.exec.reaped")
	p.died(e)
	p.drain()
	p.enter(context.Background())
	t.tell.Exited(p.id, e)
	failpoint.Hit("shim/process.exec.told")
	p.finish()
	p.leave()
	t.resign()
}

// awaitInit tells the init's exit when those of all execs have been.
func (t *Task) awaitInit(exit <-chan reaper.Exit) {
	e := <-exit
	t.oom.last() // at once: where systemd keeps the cgroup it removes it when it is empty
	failpoint.Hit("shim/process.exit.reaped")
	t.init.died(e)
	t.mu.Lock()
	t.ending = true
	if t.live == 0 {
		close(t.idle)
	}
	t.mu.Unlock()
	if t.sharedPids {
		t.killRest()
	}
	t.init.drain()
	failpoint.Hit("shim/process.exit.drained")
	<-t.idle
	t.init.enter(context.Background())
	defer t.init.leave()
	t.oom.last() // execs may have been killed since
	if !t.init.neverRan() {
		t.tell.Exited("", e)
	}
	t.init.finish()
	failpoint.Hit("shim/process.exit.told")
}

// killRest ends what an init leaves behind that is not alone in its pid namespace.
func (t *Task) killRest() {
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	err := t.guarded(func() error { return t.made().Kill(ctx, unix.SIGKILL, true) })
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		t.log.Warn("kill the rest of the container", "container", t.id, "err", err)
	}
}

// drain waits until the dead process's output has been collected.
func (p *Process) drain() {
	p.io.Exited()
	late := time.NewTimer(stdio.Grace + stdio.Grace/4)
	defer late.Stop()
	select {
	case <-p.io.Drained():
	case <-late.C: // its place takes no more: the exit need not wait for that
	}
}

// startTimeout bounds the start of an init, which holds its lane; poststart hooks are
// part of it.
const startTimeout = 2 * time.Minute

// deleteTimeout bounds clean-up that no caller waits for.
const deleteTimeout = 10 * time.Second
