package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const deleteName = "delete.lock"

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
// created, since it was loaded.
func (c *Container) stillThere() error {
	now, err := readRecord(c.root, c.id)
	if errdefs.IsNotFound(err) || err == nil && !now.Created.Equal(c.Created()) {
		return c.gone()
	}
	return err
}

func (c *Container) gone() error {
	return fmt.Errorf("container %s does not exist: %w", c.id, errdefs.ErrNotFound)
}

// removeState takes the state's name away at once, then what is in it: who comes meanwhile
// finds all of it or nothing, and a lock made anew beside a record would be nobody's.
func (c *Container) removeState() error {
	gone, err := os.MkdirTemp(c.root, gonePrefix)
	if err != nil {
		return err
	}
	defer os.Remove(gone)                                                              // when it could not be taken
	if err := unix.Rename(c.dir(), gone); err != nil && !errors.Is(err, unix.ENOENT) { // os.Rename would not take an empty directory's place
		return fmt.Errorf("rename %s: %w", c.dir(), err)
	}
	for range removeTries { // who found it before its name went may still make a lock in it
		if err = os.RemoveAll(gone); !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
	}
	return err
}

const removeTries = 10

// Names in a root of states that are being made and removed.
const (
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
)

// IsPassing says whether a name in a root is no container's, but of a state that is being
// made or removed.
func IsPassing(name string) bool {
	return strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, gonePrefix)
}
