package process

import (
	"context"
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/runtime/cgroup"
	"gantry/shim/reaper"
)

// Kill signals a process, or with all every one of the container. It waits for no
// lane. ErrNotFound when it has ended.
func (t *Task) Kill(ctx context.Context, exec string, sig unix.Signal, all bool) error {
	p, err := t.Process(exec)
	if err != nil {
		return err
	}
	if exec != "" {
		return p.signal(sig)
	}
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	if gone && !all {
		return errFinished
	}
	if d, ok := t.made().(*dormant); ok && sig == unix.SIGKILL {
		if restored, err := t.killDormant(ctx, d); err != nil || !restored {
			return err
		}
	}
	return t.guarded(func() error { return t.made().Kill(ctx, sig, all) })
}

// Pause freezes the container's processes.
func (t *Task) Pause(ctx context.Context) error { return t.freeze(ctx, Pause, Container.Pause) }

// Resume thaws them.
func (t *Task) Resume(ctx context.Context) error { return t.freeze(ctx, Resume, Container.Resume) }

func (t *Task) freeze(ctx context.Context, e Event, do func(Container, context.Context) error) error {
	if err := t.init.enter(ctx); err != nil {
		return err
	}
	defer t.init.leave()
	if err := t.init.can(e); err != nil {
		return err
	}
	if err := t.guarded(func() error { return do(t.made(), ctx) }); err != nil {
		return err
	}
	return t.init.move(e)
}

// Delete forgets a stopped process; the init's takes the container with it. A
// created one is killed first. It waits a while for output to reach its place.
func (t *Task) Delete(ctx context.Context, exec string) (int, reaper.Exit, error) {
	p, err := t.Process(exec)
	if err != nil {
		return 0, reaper.Exit{}, err
	}
	if err := t.endCreated(ctx, p); err != nil {
		return 0, reaper.Exit{}, err
	}
	if err := p.enter(ctx); err != nil {
		return 0, reaper.Exit{}, err
	}
	defer p.leave()
	if err := p.can(Delete); err != nil {
		return 0, reaper.Exit{}, err
	}
	if exec == "" {
		t.dropExecs(ctx)
		t.oom.stop()
		if err := t.guarded(func() error { return t.made().Delete(ctx, true) }); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return 0, reaper.Exit{}, err
		}
		failpoint.Hit("shim/process.delete.container")
	}
	p.release(ctx)
	failpoint.Hit("shim/process.delete.streams")
	if err := p.move(Delete); err != nil {
		return 0, reaper.Exit{}, err
	}
	t.mu.Lock()
	delete(t.execs, exec)
	t.mu.Unlock()
	s := p.Status()
	return s.Pid, s.Exit, nil
}

func (p *Process) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	p.io.Close(ctx)
}

// dropExecs frees execs that nobody deleted.
func (t *Task) dropExecs(ctx context.Context) {
	t.mu.Lock()
	execs := t.execs
	t.execs = map[string]*Process{}
	t.mu.Unlock()
	for _, p := range execs {
		p.release(ctx)
	}
}

// endCreated ends a process that was never started.
func (t *Task) endCreated(ctx context.Context, p *Process) error {
	if p.Status().State != Created {
		return nil
	}
	if p != t.init {
		if err := p.enter(ctx); err != nil {
			return err
		}
		defer p.leave()
		if p.Status().State == Created {
			p.fail(255)
		}
		return nil
	}
	if err := t.Kill(ctx, "", unix.SIGKILL, false); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}

// Pids are all processes of the container.
func (t *Task) Pids() ([]int, error) { return t.made().Pids() }

// ExecPids names the execs by pid.
func (t *Task) ExecPids() map[int]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := map[int]string{}
	for id, p := range t.execs {
		p.mu.Lock()
		if p.pid != 0 && !p.gone {
			names[p.pid] = id
		}
		p.mu.Unlock()
	}
	return names
}

// Update changes the container's limits.
func (t *Task) Update(ctx context.Context, r *specs.LinuxResources) error {
	return t.guarded(func() error { return t.made().Update(ctx, r) })
}

// Stats are the container's counters.
func (t *Task) Stats() (*cgroup.Stats, error) { return t.made().Stats() }
