package container

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"syscall"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/moby/sys/signal"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
)

// Times that dockerd allows for an exit.
const (
	afterKill    = 10 * time.Second // of KILL
	afterMissing = 2 * time.Second  // of a signal that found nobody, and of the last KILL
	stopTimeout  = 10               // seconds, unless the container says otherwise
	beforeRemove = 3                // seconds
)

// Stop sends the stop signal, waits and kills; NotModified when the container does not
// run. It goes on when the client leaves.
func (s *Service) Stop(ctx context.Context, ref string, o containertypes.StopOptions) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if !e.snapshot().Status.Up() {
		return errdefs.NotModified("container is already stopped")
	}
	if err := s.stop(ctx, e, o); err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, fmt.Errorf("cannot stop container: %s: %w", ref, err))
	}
	return nil
}

func (s *Service) stop(ctx context.Context, e *entry, o containertypes.StopOptions) error {
	ctx = context.WithoutCancel(ctx)
	c := e.snapshot()
	if !c.Status.Up() {
		return nil
	}
	sig, timeout, err := stopHow(c, o)
	if err != nil {
		return err
	}
	wait := time.Duration(timeout) * time.Second
	sendErr := s.signalWithin(ctx, e, sig, wait)
	failpoint.Hit("daemon/container.stop.signalled")
	switch {
	case errors.Is(sendErr, context.DeadlineExceeded): // of a shim that does not answer: KILL ends it too
		wait = 0
	case sendErr != nil:
		wait = afterMissing
	}
	switch {
	case timeout < 0 && sendErr == nil:
		e.down(ctx)
	case !e.downWithin(ctx, wait):
		if timeout < 0 {
			return sendErr
		}
		s.log.InfoContext(ctx, "container did not stop in time", "container", e.id, "signal", int(sig), "after", wait)
		if err := s.kill(ctx, e); err != nil && !e.downWithin(ctx, afterMissing) {
			return err
		}
	}
	failpoint.Hit("daemon/container.stop.down")
	s.publish(e.snapshot(), events.ActionStop, nil)
	return nil
}

// heardWithin is the least time that a shim gets to take a signal.
const heardWithin = 2 * time.Second

// signalWithin is signal, given up after d, or later where that is short; never where d
// is negative.
func (s *Service) signalWithin(ctx context.Context, e *entry, sig syscall.Signal, d time.Duration) error {
	if d >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(d, heardWithin))
		defer cancel()
	}
	return s.signal(ctx, e, sig)
}

// longest is the longest stop timeout in seconds; more does not fit a duration.
const longest = int(math.MaxInt64 / int64(time.Second))

// stopHow is the signal and the seconds of a stop, -1 without end.
func stopHow(c *Snapshot, o containertypes.StopOptions) (syscall.Signal, int, error) {
	sig := stopSignal(c.Config)
	if o.Signal != "" {
		var err error
		if sig, err = signal.ParseSignal(o.Signal); err != nil {
			return 0, 0, invalid(err)
		}
	}
	timeout := stopTimeout
	if c.Config.StopTimeout != nil {
		timeout = *c.Config.StopTimeout
	}
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	return sig, min(timeout, longest), nil
}

func stopSignal(c *containertypes.Config) syscall.Signal {
	if c.StopSignal != "" {
		if sig, err := signal.ParseSignal(c.StopSignal); err == nil {
			return sig
		}
	}
	return unix.SIGTERM
}

func (e *entry) downWithin(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return e.down(ctx)
}

// Kill sends a signal, by name or number; "" is KILL, which waits for the exit. It goes
// on when the client leaves.
func (s *Service) Kill(ctx context.Context, ref, name string) error {
	sig := syscall.Signal(unix.SIGKILL)
	if name != "" {
		var err error
		if sig, err = signal.ParseSignal(name); err != nil {
			return invalid(err)
		}
		if !signal.ValidSignalForPlatform(sig) {
			return errdefs.InvalidArgument("the linux daemon does not support signal %d", sig)
		}
	}
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if sig == unix.SIGKILL {
		return s.kill(ctx, e)
	}
	return s.signal(ctx, e, sig)
}

// kill sends KILL and waits for the exit; as a last resort it kills the process itself.
func (s *Service) kill(ctx context.Context, e *entry) error {
	if !e.snapshot().Status.Up() {
		return errNotRunning(e.id)
	}
	switch err := s.signal(ctx, e, unix.SIGKILL); {
	case errors.Is(err, errGone):
		e.downWithin(ctx, afterKill)
		return nil
	case s.cfg.HeedExits && errors.Is(err, context.DeadlineExceeded):
		return s.killShim(ctx, e)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errdefs.ErrUnavailable): // the shim, or the core, does not answer, and would not tell of the exit
		return err
	}
	if e.downWithin(ctx, afterKill) {
		return nil
	}
	s.log.WarnContext(ctx, "container did not die of its kill", "container", e.id)
	if err := s.Tasks.Kill(ctx, e.id, "", uint32(unix.SIGKILL), true); ignoreNotFound(err) != nil {
		return err
	}
	if !e.downWithin(ctx, afterMissing) {
		return errors.New("tried to kill container, but did not receive an exit event")
	}
	return nil
}

// killShim ends a container whose shim does not answer a core that waits for it.
func (s *Service) killShim(ctx context.Context, e *entry) error {
	s.log.WarnContext(ctx, "shim does not answer, killing it", "container", e.id)
	if err := endShim(e.snapshot()); err != nil {
		return err
	}
	if !e.downWithin(ctx, afterKill) {
		return errors.New("killed the container's shim, but did not receive an exit event")
	}
	return nil
}

// errGone says that a signal found no process: the exit is on its way.
var errGone = errors.New("no such process")

// signal sends sig. Where it means a stop the restart policy is off, and a paused
// container is thawed so that it can be heard.
func (s *Service) signal(ctx context.Context, e *entry, sig syscall.Signal) error {
	c := e.snapshot()
	if !c.Status.Up() {
		return errNotRunning(e.id)
	}
	stops := stopping(c.Config, sig)
	if stops {
		e.locked(func() { e.noRestart = true })
	}
	if !s.closing.Load() {
		s.update(ctx, e, func(n *Snapshot) { n.Stopped = true })
	}
	failpoint.Hit("daemon/container.stop.noted")
	if c.Status == Restarting {
		if stops {
			e.callOff()
			e.breakStart(errdefs.Conflict("container %s is being stopped", e.id))
		}
		return nil
	}
	if err := s.send(ctx, e, sig); err != nil {
		return err
	}
	if stops && c.Status == Paused {
		if err := s.unpause(ctx, e); err != nil {
			s.log.WarnContext(ctx, "unpause killed container", "container", e.id, "err", err)
		}
	}
	return nil
}

// send sends a signal and tells so, before the exit that it causes can be told.
func (s *Service) send(ctx context.Context, e *entry, sig syscall.Signal) error {
	e.kills.RLock()
	defer e.kills.RUnlock()
	err := s.Tasks.Kill(ctx, e.id, "", uint32(sig), false)
	if errdefs.IsNotFound(err) {
		return errGone
	}
	if err != nil {
		return wrap("Cannot kill container "+e.id, err)
	}
	s.publish(e.snapshot(), events.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
	return nil
}

// stopping: a container that names its stop signal is stopped by that one and by KILL,
// any other by whatever a user sends. So dockerd has it.
func stopping(c *containertypes.Config, sig syscall.Signal) bool {
	return c.StopSignal == "" || sig == unix.SIGKILL || sig == stopSignal(c)
}

// Restart stops a container if it runs and starts it; neither ends with the client.
func (s *Service) Restart(ctx context.Context, ref string, o containertypes.StopOptions) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.restart(ctx, e, o); err != nil {
		return errdefs.WithClass(errdefs.ErrInternal, fmt.Errorf("Cannot restart container %s: %w", ref, err)) //nolint:staticcheck // Docker's words
	}
	s.publish(e.snapshot(), events.ActionRestart, nil)
	return nil
}

func (s *Service) restart(ctx context.Context, e *entry, o containertypes.StopOptions) error {
	e.locked(func() { e.byUser++ })
	defer e.locked(func() { e.byUser-- })
	if err := s.stop(ctx, e, o); err != nil {
		return err
	}
	err := s.startNow(ctx, e)
	if errors.Is(err, errdefs.ErrNotModified) {
		return nil // somebody else has started it meanwhile
	}
	return err
}
