package layer

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// whiteout deletes base in dir, unless this layer itself has it.
func (a *applier) whiteout(dir, base string) error {
	if _, ours := a.made[path.Join(dir, base)]; ours {
		return nil
	}
	parent, err := a.openParent(dir)
	if err != nil {
		return err
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
	if a.target.Overlay {
		name := "trusted.overlay.opaque"
		if a.target.UserXattr {
			name = "user.overlay.opaque"
		}
		if err := unix.Setxattr(opened(parent).path, name, []byte("y"), 0); err != nil {
			return fmt.Errorf("make opaque: %w", err)
		}
		return nil
	}
	return a.prune(dir, parent)
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
		if _, ours := a.made[name]; !ours {
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
