package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/spec"
	"gantry/daemon/userns"
)

// Update changes limits and the restart policy, of a running container at once.
func (s *Service) Update(ctx context.Context, ref string, u containertypes.UpdateConfig) (containertypes.UpdateResponse, error) {
	h := &containertypes.HostConfig{Resources: u.Resources, RestartPolicy: u.RestartPolicy}
	warnings, err := spec.Validate(nil, h, s.machine(userns.Mapping{}), true)
	if err != nil {
		return containertypes.UpdateResponse{Warnings: warnings}, invalid(err)
	}
	e, err := s.find(ref)
	if err != nil {
		return containertypes.UpdateResponse{Warnings: warnings}, err
	}
	if err := e.lane.enter(ctx); err != nil {
		return containertypes.UpdateResponse{}, err
	}
	defer e.lane.leave()
	if err := s.apply(context.WithoutCancel(ctx), e, h); err != nil {
		return containertypes.UpdateResponse{Warnings: warnings}, fmt.Errorf("Cannot update container %s: %w", e.id, err) //nolint:staticcheck // Docker's words
	}
	s.publish(e.snapshot(), events.ActionUpdate, nil)
	return containertypes.UpdateResponse{Warnings: warnings}, nil
}

// apply changes the record and, where there is one, the task; both or none.
func (s *Service) apply(ctx context.Context, e *entry, h *containertypes.HostConfig) error {
	c := e.snapshot()
	if e.removing.Load() || s.entry(e.id) != e || c.Status == Removing || c.Status == Dead {
		return errors.New(`container is marked for removal and cannot be "update"`) // dockerd's class
	}
	next := *c.Host
	if err := spec.MergeUpdate(&next, h); err != nil {
		return err
	}
	if !c.Status.HasTask() {
		return s.putHost(e, &next)
	}
	if err := s.answers(ctx, e.id); err != nil {
		return err
	}
	if err := os.WriteFile(s.updatingPath(e), nil, 0o600); err != nil {
		return err
	}
	defer s.forgetUpdating(ctx, e)
	failpoint.Hit("daemon/container.update.noted")
	if err := s.putHost(e, &next); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.update.recorded")
	err := s.limit(ctx, e, h.Resources)
	failpoint.Hit("daemon/container.update.limited")
	if err != nil {
		if perr := s.putHost(e, c.Host); perr != nil {
			s.log.ErrorContext(ctx, "take back update", "container", e.id, "err", perr)
		}
		return errdefs.WithClass(errdefs.ErrInternal, err)
	}
	return nil
}

func (s *Service) putHost(e *entry, host *containertypes.HostConfig) error {
	return s.commit(e, func(n *Snapshot) {
		r := *n.Record
		r.Host = host
		n.Record = &r
	})
}

// limit gives the task the limits of r.
func (s *Service) limit(ctx context.Context, e *entry, r containertypes.Resources) error {
	limits, err := spec.Any(spec.Update(r))
	if err != nil {
		return err
	}
	return s.Tasks.Update(ctx, e.id, limits, nil)
}

// A running container whose limits are being changed has a file of this name in its
// directory: should the daemon die between record and task, the next one gives the task
// what the record says.
const updatingFile = "updating"

func (s *Service) updatingPath(e *entry) string { return filepath.Join(s.dir(e.id), updatingFile) }

func (s *Service) forgetUpdating(ctx context.Context, e *entry) {
	if err := os.Remove(s.updatingPath(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.WarnContext(ctx, "forget that a container is updated", "container", e.id, "err", err)
	}
}

// updateLeft ends an update that was cut off. It does not wait for the shim.
func (s *Service) updateLeft(e *entry) {
	if _, err := os.Lstat(s.updatingPath(e)); err != nil {
		return
	}
	s.spawn(func() {
		if e.lane.enter(s.life) != nil {
			return
		}
		defer e.lane.leave()
		c := e.snapshot()
		if c.Status.HasTask() {
			if err := s.limit(s.life, e, c.Host.Resources); err != nil {
				s.log.Error("give a container its limits after an update that was cut off", "container", e.id, "err", err)
				return // the next daemon tries again
			}
		}
		s.forgetUpdating(s.life, e)
	})
}
