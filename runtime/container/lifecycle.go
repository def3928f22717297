package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/runtime/plan"
)

// errNotRunning has runc's words, which its callers look for.
var errNotRunning = fmt.Errorf("container not running: %w", errdefs.ErrNotFound)

// Kill sends a signal to the init, or with all to every process of the
// container. errdefs.ErrNotFound when there is nothing to signal any more. A
// created container ends by any signal that would end a process. SIGKILL is for
// all where the init's end would not be everybody's.
func (c *Container) Kill(ctx context.Context, sig unix.Signal, all bool) error {
	if all || sig == unix.SIGKILL && !c.ownsPIDs() {
		return c.killAll(ctx, sig)
	}
	return c.signalInit(ctx, sig)
}

func (c *Container) signalInit(ctx context.Context, sig unix.Signal) error {
	pidfd := c.PidFD()
	if ended(pidfd) {
		return errNotRunning
	}
	err := lend(pidfd, func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if err == unix.ESRCH || errors.Is(err, os.ErrClosed) {
		return errNotRunning
	}
	if err != nil {
		return fmt.Errorf("signal %d: %w", sig, err)
	}
	if sig == unix.SIGKILL {
		return c.thaw(ctx)
	}
	return nil
}

// ownsPIDs says whether the container has a pid namespace of its own, whose
// processes the kernel kills with the init.
func (c *Container) ownsPIDs() bool { return plan.HasNew(c.rec.Spec, specs.PIDNamespace) }

// thaw lets a kill take effect: frozen processes don't die on cgroup v1.
func (c *Container) thaw(ctx context.Context) error {
	m, err := c.cgroup()
	if err != nil {
		return err
	}
	if frozen, err := m.Frozen(); err != nil || !frozen {
		return nil
	}
	return m.Thaw(ctx)
}

func (c *Container) killAll(ctx context.Context, sig unix.Signal) error {
	m, err := c.cgroup()
	if err != nil {
		return err
	}
	if m.Absent() {
		return c.signalAll(ctx, sig)
	}
	if sig == unix.SIGKILL {
		return m.Kill(ctx)
	}
	n, err := m.Signal(sig)
	if err == nil && n == 0 {
		return errNotRunning
	}
	return err
}

// Pause freezes all processes of the container.
func (c *Container) Pause(ctx context.Context) error {
	switch c.status() {
	case specs.StateRunning, specs.StateCreated:
	default:
		return fmt.Errorf("container not running: %w", errdefs.ErrFailedPrecondition) // runc's words
	}
	m, err := c.cgroup()
	if err != nil {
		return err
	}
	return m.Freeze(ctx)
}

// Resume thaws a paused container.
func (c *Container) Resume(ctx context.Context) error {
	if s := c.status(); s != StatePaused {
		return fmt.Errorf("container not paused: %w", errdefs.ErrFailedPrecondition)
	}
	m, err := c.cgroup()
	if err != nil {
		return err
	}
	return m.Thaw(ctx)
}

const killWait = 10 * time.Second

// Delete removes what is left of a stopped container, and kills one that was
// never started. With force it kills any. A container that still runs is
// errdefs.ErrFailedPrecondition. Nothing is left behind but, when the error
// says so, what could not be removed; Delete may be called again. Of several at
// once the others wait for the first, and find none left: errdefs.ErrNotFound.
func (c *Container) Delete(ctx context.Context, force bool) error {
	unlock, err := c.lockDelete(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	switch s := c.status(); {
	case s == specs.StateStopped:
	case s == specs.StateCreated || force:
		if err := c.killAndWait(ctx); err != nil {
			return err
		}
	default:
		return fmt.Errorf("cannot delete container %s that is not stopped: %s: %w", c.id, s, errdefs.ErrFailedPrecondition)
	}
	c.takeTimeline().Close()
	return c.destroy(ctx)
}

func (c *Container) killAndWait(ctx context.Context) error {
	if err := c.Kill(ctx, unix.SIGKILL, false); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if pidfd := c.PidFD(); pidfd != nil && !waitEnd(ctx, pidfd, killWait) {
		return fmt.Errorf("container init still running after SIGKILL: %w", errdefs.ErrUnavailable)
	}
	return nil
}

// destroy ends what the init left behind, which without a pid namespace of its
// own outlives it, removes cgroup and state, and runs the poststop hooks.
func (c *Container) destroy(ctx context.Context) error {
	m, err := c.cgroup()
	if err != nil {
		return err
	}
	if err := emptyAndDelete(ctx, m); err != nil {
		return err
	}
	if g := c.rec.Resctrl; g != nil {
		if err := g.Remove(); err != nil {
			return err
		}
	}
	if err := c.removeState(); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	c.mu.Lock()
	if c.pidfd != nil {
		c.pidfd.Close()
		c.pidfd = nil
	}
	c.mu.Unlock()
	c.poststop(ctx)
	return nil
}

func emptyAndDelete(ctx context.Context, m *cgroup.Manager) error {
	if pids, err := m.Pids(); err == nil && len(pids) > 0 {
		if err := m.Kill(ctx); err != nil {
			return err
		}
	}
	return m.Delete(ctx)
}
