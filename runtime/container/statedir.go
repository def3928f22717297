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

// makeDir lets the state directory appear with its record: whatever else is made
// can be found and deleted should this process die on the way.
func (k *creation) makeDir() error {
	if err := os.MkdirAll(k.Root, 0o711); err != nil {
		return fmt.Errorf("make state root: %w", err)
	}
	tmp, err := os.MkdirTemp(k.Root, newPrefix)
	if err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if err = os.Chmod(tmp, 0o711); err == nil {
		err = k.c.rec.save(tmp)
	}
	if err == nil { // now, for a delete may find no room for it
		err = os.WriteFile(filepath.Join(tmp, deleteName), nil, 0o600)
	}
	if err == nil && k.Notify {
		err = os.Mkdir(filepath.Join(tmp, notifyName), 0o755)
	}
	if err == nil {
		err = unix.Rename(tmp, k.c.dir()) // os.Rename would not take an empty directory's place
	}
	if err != nil {
		os.RemoveAll(tmp)
	}
	if errors.Is(err, fs.ErrExist) { // ENOTEMPTY too
		return fmt.Errorf("container with given ID already exists: %s: %w", k.ID, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	k.undo = append(k.undo, func() {
		ctx, cancel := context.WithTimeout(context.Background(), killWait)
		defer cancel()
		os.RemoveAll(k.c.dir())
		k.c.poststop(ctx)
	})
	return nil
}

// removeState takes the state's name away at once, then what is in it: who comes meanwhile
// finds all of it or nothing, and a lock made anew beside a record would be nobody's. Where
// there is no room for another name it does without.
func (c *Container) removeState() (err error) {
	gone := filepath.Join(c.root, fmt.Sprintf("%s%s.%d.%d", gonePrefix, c.id, os.Getpid(), time.Now().UnixNano()))
	switch err := unix.Rename(c.dir(), gone); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.ENAMETOOLONG):
		gone = c.dir()
	case err != nil:
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
