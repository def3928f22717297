package layer

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// whiteout deletes base in dir; what this layer itself has there stays.
func (a *applier) whiteout(dir, base string) error {
	parent, err := a.openParent(dir)
	if err != nil {
		return err
	}
	if name := path.Join(dir, base); a.has(name) {
		sub, err := openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil //nolint:nilerr // no directory: nothing is below it
		}
		defer sub.Close()
		return a.hideBelow(name, sub)
	}
	if err := a.clear(parent, base); err != nil {
		return err
	}
	if !a.target.Overlay {
		return nil
	}
	if err := unix.Mknodat(int(parent.Fd()), base, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout: %w", classify(err))
	}
	return nil
}

// opaque deletes what lower layers have in dir.
func (a *applier) opaque(dir string) error {
	parent, err := a.openParent(dir)
	if err != nil {
		return err
	}
	return a.hideBelow(dir, parent)
}

// hideBelow deletes what lower layers have in the open directory name.
func (a *applier) hideBelow(name string, dir *os.File) error {
	if a.target.Overlay {
		return a.setOpaque(dir)
	}
	return a.prune(name, dir)
}

func (a *applier) setOpaque(dir *os.File) error {
	name := "trusted.overlay.opaque"
	if a.target.UserXattr {
		name = "user.overlay.opaque"
	}
	if err := unix.Setxattr(opened(dir).path, name, []byte("y"), 0); err != nil {
		return fmt.Errorf("make opaque: %w", err)
	}
	return nil
}

// has says whether this layer has put something at the path.
func (a *applier) has(name string) bool {
	_, ok := a.made[name]
	return ok
}

// deleted says whether base is a whiteout of this layer.
func (a *applier) deleted(dir *os.File, base string) bool {
	st, ok, err := stat(dir, base)
	return a.target.Overlay && ok && err == nil && isWhiteout(&st)
}

// replaceWhiteout makes a directory where one of the lower layers has been deleted:
// nothing of that shows through.
func (a *applier) replaceWhiteout(parent *os.File, base string) error {
	fd := int(parent.Fd())
	if err := unix.Unlinkat(fd, base, 0); err != nil {
		return err
	}
	if err := unix.Mkdirat(fd, base, 0o700); err != nil {
		return err
	}
	f, err := openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	return a.setOpaque(f)
}

// prune deletes below the directory what this layer has not made itself.
func (a *applier) prune(dir string, parent *os.File) error {
	d, err := openAt(parent, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, base := range names {
		name := path.Join(dir, base)
		if !a.has(name) {
			if err := a.clear(d, base); err != nil {
				return err
			}
			continue
		}
		sub, err := openAt(d, base, unix.O_RDONLY|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // no directory
		}
		if err != nil {
			return err
		}
		err = a.prune(name, sub)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
