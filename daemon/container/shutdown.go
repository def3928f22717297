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
// next daemon starts: nobody counts as stopped by a user. Each has its own stop signal
// and timeout; all together have limit seconds, or what the most patient needs if that
// is more, as with dockerd. -1 is no limit.
func (s *Service) Shutdown(ctx context.Context, limit int) error {
	s.closing.Store(true)
	if limit = s.shutdownLimit(limit); limit >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(limit)*time.Second)
		defer cancel()
	}
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
			if err := s.shut(ctx, e); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// shutdownGrace is what there is in seconds beside the longest stop timeout.
const shutdownGrace = 5

func (s *Service) shutdownLimit(limit int) int {
	for _, e := range s.all() {
		if limit < 0 {
			return -1
		}
		if c := e.snapshot(); c.Status.Up() {
			_, timeout, err := stopHow(c, containertypes.StopOptions{})
			switch {
			case err == nil && timeout < 0:
				return -1
			case err == nil:
				limit = max(limit, timeout+shutdownGrace)
			}
		}
	}
	return limit
}

func (s *Service) shut(ctx context.Context, e *entry) error {
	begun := time.Now()
	err := s.stop(ctx, e, containertypes.StopOptions{})
	s.log.Info("container stopped", "container", e.id, "took", time.Since(begun), "err", err)
	return err
}
