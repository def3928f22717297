package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const deleteName = "delete.lock"

// lock lets one caller after the other change the container, across processes. It is a lock
// on the state directory itself.
func (c *Container) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.Open(c.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.gone()
	}
	if err != nil {
		return nil, fmt.Errorf("lock state: %w", err)
	}
	if err := flock(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockDelete lets one caller after the other delete the container, across
// processes, until it is gone. It is a lock beside that of starts: a container
// whose start hangs in a hook can be deleted.
func (c *Container) lockDelete(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir(), deleteName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.gone()
	}
	if err != nil {
		return nil, fmt.Errorf("lock state: %w", err)
	}
	if err = flock(ctx, f); err == nil {
		err = c.stillThere()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// flock waits for the lock with ctx.
func flock(ctx context.Context, f *os.File) error {
	for {
		err := lend(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if err == nil {
			return nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return fmt.Errorf("lock state: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

const lockPause = 5 * time.Millisecond

// stillThere fails when the container was deleted, and another of its id perhaps
// created, since it was loaded. A record that has been damaged since is no other one.
func (c *Container) stillThere() error {
	now, err := readRecord(c.root, c.id)
	if errdefs.IsNotFound(err) || err == nil && !now.Created.Equal(c.Created()) {
		return c.gone()
	}
	return nil
}

func (c *Container) gone() error {
	return fmt.Errorf("container %s does not exist: %w", c.id, errdefs.ErrNotFound)
}
