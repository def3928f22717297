package process

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/shim/reaper"
	"gantry/shim/stdio"
)

// Process is the init or an exec of a task.
type Process struct {
	id   string // exec id; "" is the init
	io   *stdio.IO
	spec *specs.Process // of an exec
	lane chan struct{}  // one of Start, Pause, Resume, Delete and the exit at a time

	mu    sync.Mutex
	state State       // guarded by mu
	pid   int         // 0 before it exists; guarded by mu
	pidfd int         // -1: none; guarded by mu
	gone  bool        // reaped, and perhaps not yet told; guarded by mu
	exit  reaper.Exit // guarded by mu
	// failed is the exit status of a start that failed, 0 for none; guarded by mu
	failed int
	ended  chan struct{} // closed when the exit has been told
}

func newProcess(id string, io *stdio.IO) *Process {
	return &Process{id: id, io: io, lane: make(chan struct{}, 1), pidfd: -1, ended: make(chan struct{})}
}

// Status is what State answers.
type Status struct {
	ID    string // exec id; "" is the init
	State State
	Pid   int
	IO    stdio.Spec
	Exit  reaper.Exit // of a stopped process
}

// Exec is an exec and what it runs.
type Exec struct {
	Status
	Spec *specs.Process // not to be changed
}

// Execs are the execs that have not been deleted.
func (t *Task) Execs() (list []Exec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.execs {
		list = append(list, Exec{p.Status(), p.spec})
	}
	return list
}

// enter waits for the lane.
func (p *Process) enter(ctx context.Context) error {
	select {
	case p.lane <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Process) leave() { <-p.lane }

// Status never waits for a lane.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{ID: p.id, State: p.state, Pid: p.pid, IO: p.io.Spec(), Exit: p.exit}
}

// can says whether e is legal now.
func (p *Process) can(e Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.state.next(e)
	return err
}

// move changes the state.
func (p *Process) move(e Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, err := p.state.next(e)
	p.state = to
	return err
}

// born records the process, inside the Guard in which it came to be, so that
// its pid is still its own.
func (p *Process) born(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		fd = -1 // kill answers "already finished" then
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.pidfd = pid, fd
}

// died records the exit before it is told: there is nothing to signal any more.
func (p *Process) died(e reaper.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone, p.exit = true, e
	if p.failed != 0 {
		p.exit.Status = p.failed
	}
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// finish makes the process stopped and wakes those who wait. It is called after
// the exit event went out, in the lane.
func (p *Process) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != Stopped {
		p.state = Stopped
		close(p.ended)
	}
}

// fail makes a process stopped that never ran.
func (p *Process) fail(status int) {
	p.startFailed(status)
	p.died(reaper.Exit{At: time.Now()})
	p.finish()
}

// startFailed notes the status that an exit without a start is to have; 0 takes it back.
// The exit may have come first: it is not told before the start has left the lane.
func (p *Process) startFailed(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = status
	if p.gone && status != 0 {
		p.exit.Status = status
	}
}

// neverRan says whether the start failed. Such an exit is not told.
func (p *Process) neverRan() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed != 0
}

// signal sends sig to this very process. ErrNotFound when it has ended or not begun.
func (p *Process) signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return errdefs.FailedPrecondition("process is not running")
	}
	if p.pidfd < 0 {
		return errFinished
	}
	switch err := unix.PidfdSendSignal(p.pidfd, sig, nil, 0); err {
	case nil:
		return nil
	case unix.ESRCH:
		return errFinished
	default:
		return fmt.Errorf("signal %d to process %d: %w", sig, p.pid, err)
	}
}

var errFinished = errdefs.NotFound("process already finished")

// Wait returns the exit once it has been told.
func (p *Process) Wait(ctx context.Context) (reaper.Exit, error) {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return reaper.Exit{}, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit, nil
}

// IO is the process's streams.
func (p *Process) IO() *stdio.IO { return p.io }
