package service

import (
	"context"
	"errors"
	"slices"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
)

// What a sandbox does with all containers of its shim.

// Hold keeps the service from ending, although no container is left, until End.
func (s *Service) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

// IDs are the containers' that have been created, sorted.
func (s *Service) IDs() (ids []string) {
	for _, c := range s.all() {
		ids = append(ids, c.id)
	}
	slices.Sort(ids)
	return ids
}

func (s *Service) all() (list []*container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		if c != nil {
			list = append(list, c)
		}
	}
	return list
}

// Counters are those of one container.
func (s *Service) Counters(id string) (*cgroup.Stats, error) {
	c, err := s.get(id)
	if err != nil {
		return nil, err
	}
	return c.Stats()
}

// KillAll kills what runs in the containers and waits until all inits have ended.
func (s *Service) KillAll(ctx context.Context) error {
	var errs []error
	all := s.all()
	for _, c := range all {
		if err := c.Kill(ctx, "", unix.SIGKILL, true); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	for _, c := range all {
		p, err := c.Process("")
		if err == nil {
			_, err = p.Wait(ctx)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// End takes no more containers, kills and deletes those there are, and asks for the end
// of the shim. What fails may be tried again.
func (s *Service) End(ctx context.Context) error {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	if err := s.awaitCreated(ctx); err != nil {
		return err
	}
	if err := s.KillAll(ctx); err != nil {
		return err
	}
	for _, c := range s.all() {
		if _, err := s.Delete(ctx, &taskapi.DeleteRequest{ID: c.id}); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	s.mu.Lock()
	s.held = false
	s.mu.Unlock()
	s.Quit()
	return nil
}

// awaitCreated waits for the creations that are under way.
func (s *Service) awaitCreated(ctx context.Context) error {
	return until(ctx, func() bool { return !s.creating() })
}

// until waits for what takes a moment.
func until(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *Service) creating() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		if c == nil {
			return true
		}
	}
	return false
}
