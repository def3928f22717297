// Package checkpoint keeps the checkpoints of containers: a directory each, with what a
// runtime has written there, below the container's own directory or one that a user has
// named.
//
//	<dir>/<name>/             a checkpoint
//	<dir>/.<name>-<number>/   one that is being written; it gets its name when it is whole
//
// All paths below a directory are resolved inside of it; what is a symbolic link there
// is no checkpoint.
package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"gantry/daemon/name"
)

// Dir is a directory of checkpoints. The texts of its errors are dockerd's.
type Dir struct {
	Path      string // absolute
	Container string // its name, for messages
}

// Check says whether id can name a checkpoint.
func Check(id string) error {
	if !name.Valid(id) || len(id) > maxName {
		return fmt.Errorf("Invalid checkpoint ID (%s), only %s are allowed", id, name.Chars) //nolint:staticcheck // dockerd's words
	}
	return nil
}

// maxName leaves room for a draft's dot and number in a file name.
const maxName = 240

// List names the checkpoints, in order; none when there is no directory.
func (d Dir) List() (names []string, err error) {
	entries, err := os.ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.IsDir() && name.Valid(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Find is the path of a checkpoint.
func (d Dir) Find(id string) (string, error) {
	if err := Check(id); err != nil {
		return "", err
	}
	st, err := os.Lstat(filepath.Join(d.Path, id))
	return filepath.Join(d.Path, id), d.there(id, st, err)
}

// there says whether what was found is a checkpoint.
func (d Dir) there(id string, st fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("checkpoint %s does not exist for container %s", id, d.Container)
	case !st.IsDir():
		return fmt.Errorf("%s exists and is not a directory", filepath.Join(d.Path, id))
	}
	return nil
}

// Remove removes a checkpoint. Of one whose removal is cut off nothing is listed.
func (d Dir) Remove(id string) error {
	if err := Check(id); err != nil {
		return err
	}
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return d.there(id, nil, err)
	}
	defer root.Close()
	st, err := root.Lstat(id)
	if err := d.there(id, st, err); err != nil {
		return err
	}
	hidden := hide(id)
	if err := root.Rename(id, hidden); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", id, err)
	}
	if err := root.RemoveAll(hidden); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", id, err)
	}
	return nil
}

// hide is a name that no checkpoint can have.
func hide(id string) string { return fmt.Sprintf(".%s-%d", id, rand.Uint32()) }

// Draft is a checkpoint that is being written. It can be saved, to be settled by a
// process that comes later.
type Draft struct {
	Dir  Dir
	ID   string
	Name string // of its directory for the time being
}

// Draft begins a checkpoint; nothing is made yet.
func (d Dir) Draft(id string) (Draft, error) {
	if err := Check(id); err != nil {
		return Draft{}, err
	}
	return Draft{Dir: d, ID: id, Name: hide(id)}, d.free(id)
}

func (d Dir) free(id string) error {
	path := filepath.Join(d.Path, id)
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.IsDir():
		return d.taken(id)
	}
	return fmt.Errorf("%s exists and is not a directory", path)
}

func (d Dir) taken(id string) error {
	return fmt.Errorf("checkpoint with name %s already exists for container %s", id, d.Container)
}

// Path is where the checkpoint is to be written.
func (d Draft) Path() string { return filepath.Join(d.Dir.Path, d.Name) }

// Make makes the directory.
func (d Draft) Make() error {
	if err := os.MkdirAll(d.Dir.Path, 0o700); err != nil {
		return err
	}
	return os.Mkdir(d.Path(), 0o700)
}

// Keep gives the checkpoint its name. What a power cut takes of it is the runtime's to
// miss: memory images are not synced.
func (d Draft) Keep() error {
	err := unix.Renameat2(unix.AT_FDCWD, d.Path(), unix.AT_FDCWD, filepath.Join(d.Dir.Path, d.ID), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return d.Dir.taken(d.ID)
	}
	if err != nil {
		return fmt.Errorf("name checkpoint %s: %w", d.ID, err)
	}
	return nil
}

// Discard removes what has been written.
func (d Draft) Discard() error {
	root, err := os.OpenRoot(d.Dir.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(d.Name)
}

// Sweep removes what drafts and removals that were cut off have left in a directory that
// is the engine's own.
func (d Dir) Sweep() error {
	root, err := os.OpenRoot(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	entries, err := os.ReadDir(d.Path)
	for _, e := range entries {
		if e.Name()[0] == '.' {
			err = errors.Join(err, root.RemoveAll(e.Name()))
		}
	}
	return err
}

// whole are files that a dump writes at its end: CRIU's inventory.
var whole = []string{"inventory.img"}

// Whole says whether all of it seems to have been written.
func (d Draft) Whole() bool {
	return !slices.ContainsFunc(whole, func(file string) bool {
		_, err := os.Lstat(filepath.Join(d.Path(), file))
		return err != nil
	})
}

// valid says whether a draft that was read from a file is one.
func (d Draft) valid() bool {
	return filepath.IsAbs(d.Dir.Path) && Check(d.ID) == nil && filepath.IsLocal(d.Name) &&
		filepath.Base(d.Name) == d.Name && len(d.Name) > 1 && d.Name[0] == '.'
}
