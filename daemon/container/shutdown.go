package container

import (
	"context"
	"errors"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

// Shutdown stops every container that runs, all at once, since the daemon ends and they
// are not to outlive it. Policies are off from here on, and will be applied when the
// next daemon starts: nobody counts as stopped by a user. Each has its own stop
// timeout, but none more than limit seconds; -1 is no limit.
func (s *Service) Shutdown(ctx context.Context, limit int) error {
	s.closing.Store(true)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for _, e := range s.all() {
		if !e.snapshot().Status.Up() {
			continue
		}
		wg.Go(func() {
			if err := s.shut(ctx, e, limit); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Service) shut(ctx context.Context, e *entry, limit int) error {
	_, timeout, err := stopHow(e.snapshot(), containertypes.StopOptions{})
	if err != nil {
		return err
	}
	if limit >= 0 && (timeout < 0 || timeout > limit) {
		timeout = limit
	}
	begun := time.Now()
	err = s.stop(ctx, e, containertypes.StopOptions{Timeout: &timeout})
	s.log.Info("container stopped", "container", e.id, "took", time.Since(begun), "err", err)
	return err
}
