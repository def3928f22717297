package container

import (
	"context"
	"errors"
	"fmt"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
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
	put := func(host *containertypes.HostConfig) error {
		return s.commit(e, func(n *Snapshot) {
			r := *n.Record
			r.Host = host
			n.Record = &r
		})
	}
	if err := put(&next); err != nil {
		return err
	}
	if !c.Status.HasTask() {
		return nil
	}
	limits, err := spec.Any(spec.Update(h.Resources))
	if err == nil {
		err = s.Tasks.Update(ctx, e.id, limits, nil)
	}
	if err != nil {
		if perr := put(c.Host); perr != nil {
			s.log.ErrorContext(ctx, "take back update", "container", e.id, "err", perr)
		}
		return errdefs.WithClass(errdefs.ErrInternal, err)
	}
	return nil
}
