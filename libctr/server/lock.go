package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// lockPoll is how often a taken directory is tried again.
const lockPoll = 20 * time.Millisecond

// lock keeps other cores out of a directory until the file is closed, or the process
// ends. It waits for one that is on its way out.
func lock(ctx context.Context, dir string, wait time.Duration) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	for deadline := time.Now().Add(wait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
		case time.Now().After(deadline):
			return nil, errors.Join(errdefs.FailedPrecondition("%s is in use by another core", dir), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, ctx.Err()), f.Close())
		case <-time.After(lockPoll):
		}
	}
}
