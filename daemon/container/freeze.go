package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/task"
)

// A container that is frozen for a commit has a file of this name in its directory, so
// that a daemon that dies meanwhile does not leave it so: the next one thaws it.
const frozenFile = "frozen"

// freeze pauses a running container for a while; what else it is, it stays. Several may
// freeze the same one: the last to thaw wakes it.
func (s *Service) freeze(ctx context.Context, e *entry) (thaw func(), err error) {
	if err := e.lane.enter(ctx); err != nil {
		return nil, err
	}
	defer e.lane.leave()
	thaw = func() { s.thaw(context.WithoutCancel(ctx), e) }
	ctx = context.WithoutCancel(ctx)
	switch st := e.snapshot().Status; {
	case st == Paused && e.freezes > 0:
		e.freezes++
		return thaw, nil
	case st != Running:
		return func() {}, nil
	}
	if err := s.answers(ctx, e.id); err != nil { // it would freeze the container some day
		s.log.WarnContext(ctx, "pause container for a commit", "container", e.id, "err", err)
		return func() {}, nil
	}
	if err := os.WriteFile(s.frozenPath(e), nil, 0o600); err != nil {
		return nil, fmt.Errorf("freeze container %s: %w", e.id, err)
	}
	failpoint.Hit("daemon/container.freeze.noted")
	if err := s.pauseTask(ctx, e); err != nil { // read as it is, as dockerd does
		s.log.WarnContext(ctx, "pause container for a commit", "container", e.id, "err", err)
		s.forgetFrozen(ctx, e)
		return func() {}, nil
	}
	failpoint.Hit("daemon/container.freeze.paused")
	e.freezes++
	return thaw, nil
}

// answers says whether a running container's shim does. What one is asked for that does
// not is refused after a while, and done all the same when it goes on.
func (s *Service) answers(ctx context.Context, id string) error {
	st, err := s.Tasks.Get(ctx, id, "")
	if err == nil && st.Status == task.StatusUnknown {
		err = errSilent(id)
	}
	return err
}

func errSilent(id string) error {
	return errdefs.Unavailable("the shim of container %s does not answer", id)
}

func (s *Service) thaw(ctx context.Context, e *entry) {
	if err := e.lane.enter(ctx); err != nil {
		return // never: ctx does not end
	}
	defer e.lane.leave()
	if e.freezes--; e.freezes > 0 {
		return
	}
	if e.snapshot().Status == Paused {
		if err := s.wake(ctx, e); err != nil {
			s.log.ErrorContext(ctx, "unpause container after a commit", "container", e.id, "err", err)
			return // the next daemon tries again
		}
	}
	failpoint.Hit("daemon/container.freeze.thawed")
	s.forgetFrozen(ctx, e)
}

// thawLeft wakes a container that an earlier daemon froze.
func (s *Service) thawLeft(ctx context.Context, e *entry) {
	if _, err := os.Lstat(s.frozenPath(e)); err != nil {
		return
	}
	if e.snapshot().Status == Paused {
		if err := s.wake(ctx, e); err != nil {
			s.log.ErrorContext(ctx, "unpause container after a commit that was cut off", "container", e.id, "err", err)
			return // the next daemon tries again
		}
	}
	s.forgetFrozen(ctx, e)
}

func (s *Service) frozenPath(e *entry) string { return filepath.Join(s.dir(e.id), frozenFile) }

func (s *Service) forgetFrozen(ctx context.Context, e *entry) {
	if err := os.Remove(s.frozenPath(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.WarnContext(ctx, "forget that a container is frozen", "container", e.id, "err", err)
	}
}
