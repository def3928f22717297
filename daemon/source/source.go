// Package source gives a path of its own to what a mount is made of and that lies in a
// tree nobody can trust: a directory or file of a volume, or of an image. It is opened
// by the kernel inside that tree and mounted, at
//
//	<root>/<random>/tree    an image's file system, only while a part of it is opened
//	<root>/<random>/source  what was opened
//
// until a container has it. So what is mounted in the container is what was opened,
// whatever becomes of the names meanwhile. The mounts are of the daemon's mount
// namespace, since a runtime of any make must find them.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/rootfs"
	"gantry/libctr/core/mount"
)

// Store is the directory of the sources that are in use.
type Store struct{ root string }

// New returns the store at root, which is made by its first use.
func New(root string) *Store { return &Store{root} }

// Clear takes away what an earlier run has left. Nothing may be in use.
func (s *Store) Clear() error {
	dirs, err := os.ReadDir(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range dirs {
		err = errors.Join(err, (&Source{dir: filepath.Join(s.root, d.Name())}).Close())
	}
	return err
}

// Source is mounted at Path until Close.
type Source struct {
	Path string
	dir  string
}

// Close unmounts the source; who has mounted it elsewhere keeps it.
func (s *Source) Close() error {
	for _, name := range []string{treeName, sourceName} {
		if err := unmount(filepath.Join(s.dir, name)); err != nil {
			return err
		}
		failpoint.Hit("daemon/source.close.unmounted")
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // never RemoveAll: below might be the tree
		}
	}
	return os.Remove(s.dir)
}

const treeName, sourceName = "tree", "source"

func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil: // once more: there may be another below
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return &fs.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
}

// Part opens a path of the directory base, which no link may lead out of.
func (s *Store) Part(base, path string) (_ *Source, err error) {
	dir, err := os.OpenFile(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	src, err := s.make()
	if err != nil {
		return nil, err
	}
	defer closeOnError(src, &err)
	return src, src.attach(int(dir.Fd()), base, path)
}

// Image mounts an image's file system read-only, or a path of it. name is the image's,
// for the user.
func (s *Store) Image(mounts []mount.Mount, name, path string) (_ *Source, err error) {
	root, err := rootfs.Open(mounts)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := asInImage(root.FD()); err != nil {
		return nil, err
	}
	src, err := s.make()
	if err != nil {
		return nil, err
	}
	defer closeOnError(src, &err)
	if path == "" {
		return src, src.put(root.FD(), sourceName, true)
	}
	// A part of a mount can be cloned once that is in the tree.
	if err := src.put(root.FD(), treeName, true); err != nil {
		return nil, err
	}
	failpoint.Hit("daemon/source.image.tree")
	if err := src.attach(root.FD(), name, path); err != nil {
		return nil, err
	}
	return src, unmount(filepath.Join(src.dir, treeName))
}

func closeOnError(src *Source, err *error) {
	if *err != nil {
		src.Close() //nolint:errcheck // Clear tries again; the user hears of the cause
	}
}

// asInImage lets programs of the image run, which the daemon's own view does not.
func asInImage(fd int) error {
	attr := unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY,
		Attr_clr: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC,
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

func (s *Store) make() (*Source, error) {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.root, "")
	if err != nil {
		return nil, err
	}
	return &Source{Path: filepath.Join(dir, sourceName), dir: dir}, nil
}

// attach opens path below dir and mounts what is there.
func (s *Source) attach(dir int, base, path string) error {
	f, err := beneath(dir, base, path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("open_tree %s: %w", filepath.Join(base, path), err)
	}
	defer unix.Close(tree)
	return s.put(tree, sourceName, info.IsDir())
}

// put attaches a mount at a new place of the source's.
func (s *Source) put(tree int, name string, dir bool) error {
	place := filepath.Join(s.dir, name)
	if err := makePlace(place, dir); err != nil {
		return err
	}
	failpoint.Hit("daemon/source.make.place")
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount to %s: %w", place, err)
	}
	failpoint.Hit("daemon/source.make.mounted")
	return nil
}

func makePlace(path string, dir bool) error {
	if dir {
		return os.Mkdir(path, 0o700)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// tries bounds how often openat2 is repeated when the tree changes under it.
const tries = 32

// beneath opens path below dir: InvalidArgument when a link leads out of it, NotFound
// when nothing is there. base is what dir is called.
func beneath(dir int, base, path string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	var err error
	for range tries {
		var fd int
		fd, err = unix.Openat2(dir, filepath.Clean(path), &how)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	whole := filepath.Join(base, path)
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, errdefs.InvalidArgument("path concatenation escapes the base directory, base: %s, subpath: %s", base, path)
	case errors.Is(err, unix.ENOENT):
		return nil, errdefs.NotFound("cannot access path %s: %w", whole, &fs.PathError{Op: "lstat", Path: whole, Err: err})
	}
	return nil, fmt.Errorf("error while resolving symlinks in combined path %q: %w", whole, err)
}
