package container

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/name"
)

// Rename gives a container another name.
func (s *Service) Rename(ctx context.Context, ref, to string) error {
	if ref == "" || to == "" {
		return errdefs.InvalidArgument("Neither old nor new names may be empty")
	}
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	defer e.lane.leave()
	if s.entry(e.id) != e { // removed meanwhile; a record written now would come back
		return errNotFound(ref)
	}
	old, next := e.snapshot().Name, name.Trim(to)
	if old == next {
		return errdefs.InvalidArgument("Renaming a container with the same name as its current name")
	}
	if next, err = s.reserve("/"+next, e.id); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err) //nolint:staticcheck // Docker's words
	}
	links := e.snapshot().Links
	s.reserveLinks(next, links)
	err = s.commit(e, func(n *Snapshot) {
		r := *n.Record
		r.Name = next
		n.Record = &r
	})
	if err != nil {
		s.releaseLinks(next, links)
		s.index.Release(next, e.id)
		return err
	}
	failpoint.Hit("daemon/container.rename.recorded")
	s.releaseLinks(old, links)
	s.index.Release(old, e.id)
	s.publish(e.snapshot(), events.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}
