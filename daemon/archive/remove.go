package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// remove takes away what is at a place, a directory with all in it. EBUSY where
// something is mounted: what is below that is left alone.
func (u *unpacker) remove(p place, depth int) error {
	fail := func(err error) error { return &fs.PathError{Op: "unlinkat", Path: p.full, Err: err} }
	if depth > maxDepth {
		return fail(unix.ENAMETOOLONG)
	}
	busy, err := u.Root.IsMountPoint(p.dir, p.at, p.base)
	if err != nil {
		return fail(err)
	}
	if busy {
		return fail(unix.EBUSY)
	}
	err = unix.Unlinkat(int(p.dir.Fd()), p.base, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return fail(err)
	}
	if err := u.empty(p, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(p.dir.Fd()), p.base, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail(err)
	}
	return nil
}

// empty removes what is in a directory.
func (u *unpacker) empty(p place, depth int) error {
	dir, err := openAt(p.dir, p.base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("remove %s: %w", p.full, err)
	}
	defer dir.Close()
	for {
		if err := u.goOn(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			sub := place{dir: dir, at: p.full, base: name, full: p.full + "/" + name}
			if err := u.remove(sub, depth+1); err != nil {
				return err
			}
		}
		if len(names) == 0 || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", p.full, err)
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil { // what was removed moves the rest
			return fmt.Errorf("remove %s: %w", p.full, err)
		}
	}
}
