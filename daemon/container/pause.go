package container

import (
	"context"
	"fmt"
	"strconv"

	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/daemon/health"
)

// Pause freezes a container.
func (s *Service) Pause(ctx context.Context, ref string) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	defer e.lane.leave()
	ctx = context.WithoutCancel(ctx)
	switch st := e.snapshot().Status; st {
	case Running:
	case Paused:
		return errdefs.Conflict("Container %s is already paused", e.id)
	case Restarting:
		return errRestarting(e.id)
	default:
		return errNotRunning(e.id)
	}
	return s.pauseTask(ctx, e)
}

// pauseTask pauses a running container. The caller is in the lane.
func (s *Service) pauseTask(ctx context.Context, e *entry) error {
	if err := s.Tasks.Pause(ctx, e.id); err != nil {
		return fmt.Errorf("cannot pause container %s: %w", e.id, err)
	}
	s.restChecks(e.id)
	next := s.update(ctx, e, func(n *Snapshot) { n.Status, n.Health = Paused, health.Rest(n.Health) })
	s.publish(next, events.ActionPause, nil)
	return nil
}

// Unpause thaws a container.
func (s *Service) Unpause(ctx context.Context, ref string) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.unpause(ctx, e)
}

func (s *Service) unpause(ctx context.Context, e *entry) error {
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	defer e.lane.leave()
	ctx = context.WithoutCancel(ctx)
	if e.snapshot().Status != Paused {
		return fmt.Errorf("Container %s is not paused", e.id) //nolint:staticcheck // Docker's words
	}
	return s.wake(ctx, e)
}

// wake resumes a paused container. The caller is in the lane, or alone.
func (s *Service) wake(ctx context.Context, e *entry) error {
	if err := s.Tasks.Resume(ctx, e.id); err != nil {
		return fmt.Errorf("Cannot unpause container %s: %w", e.id, err) //nolint:staticcheck // Docker's words
	}
	next := s.update(ctx, e, func(n *Snapshot) { n.Status = Running })
	s.beginChecks(next)
	s.publish(next, events.ActionUnPause, nil)
	return nil
}

// Resize sets the size of a container's terminal.
func (s *Service) Resize(ctx context.Context, ref string, height, width uint32) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if !e.snapshot().Status.HasTask() {
		return errNotRunning(e.id)
	}
	if e.snapshot().Config.Tty { // without one there is nothing to do, and nothing wrong
		if err := s.Tasks.ResizePty(context.WithoutCancel(ctx), e.id, "", width, height); err != nil {
			return err
		}
	}
	s.publish(e.snapshot(), events.ActionResize, map[string]string{
		"height": strconv.FormatUint(uint64(height), 10), "width": strconv.FormatUint(uint64(width), 10),
	})
	return nil
}
