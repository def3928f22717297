package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CopyTree copies all that is in the directory from, and from's own attributes,
// into the empty directory to: owners, modes, extended attributes (but overlayfs's
// own), times to the nanosecond, hard links, devices. Data is shared with the
// original where the filesystem can. Sockets are left out. No link is followed.
func CopyTree(ctx context.Context, to, from string) error {
	src, err := os.OpenFile(from, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("copy tree: %w", err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("copy tree: %w", err)
	}
	defer dst.Close()
	c := copier{ctx: ctx, root: dst, links: make(map[inode]string)}
	if err := c.directory("", dst, src, 0); err != nil {
		return fmt.Errorf("copy tree %s: %w", from, err)
	}
	return nil
}

// copier is one CopyTree.
type copier struct {
	ctx   context.Context
	root  *os.File
	links map[inode]string // copied files with further names
}

// directory fills dst, then gives it src's attributes, times last.
func (c *copier) directory(name string, dst, src *os.File, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%.200q: more than %d directories deep", name, maxDepth)
	}
	list, err := names(src)
	if err != nil {
		return err
	}
	for _, base := range list {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.child(name+"/"+base, base, dst, src, depth); err != nil {
			return fmt.Errorf("%.200q: %w", base, err)
		}
	}
	return copyAttributes(dst, src)
}

func (c *copier) child(name, base string, dst, src *os.File, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	id := inode{uint64(st.Dev), st.Ino}
	kind := st.Mode & unix.S_IFMT
	if first, ok := c.links[id]; ok && kind != unix.S_IFDIR {
		return unix.Linkat(int(c.root.Fd()), first[1:], int(dst.Fd()), base, 0)
	}
	if st.Nlink > 1 && kind != unix.S_IFDIR {
		c.links[id] = name
	}
	switch kind {
	case unix.S_IFDIR:
		return c.subdirectory(name, base, dst, src, depth)
	case unix.S_IFREG:
		return copyFile(base, dst, src)
	case unix.S_IFSOCK:
		delete(c.links, id)
		return nil
	case unix.S_IFLNK:
		target, err := readlink(src, base)
		if err == nil {
			err = unix.Symlinkat(target, int(dst.Fd()), base)
		}
		if err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(int(dst.Fd()), base, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	return copyAttributesAt(base, dst, src, &st)
}

func (c *copier) subdirectory(name, base string, dst, src *os.File, depth int) error {
	if err := unix.Mkdirat(int(dst.Fd()), base, 0o700); err != nil {
		return err
	}
	from, err := openAt(src, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.directory(name, to, from, depth+1)
}

func copyFile(base string, dst, src *os.File) error {
	from, err := openRegular(src, base)
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := unix.Openat(int(dst.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), base)
	defer to.Close()
	if unix.IoctlFileClone(fd, int(from.Fd())) != nil {
		if _, err := io.Copy(to, from); err != nil { // copy_file_range
			return err
		}
	}
	return errors.Join(copyAttributes(to, from), to.Close())
}

// copyAttributesAt is copyAttributes for what can't be opened: links and devices.
func copyAttributesAt(base string, dst, src *os.File, st *unix.Stat_t) error {
	if err := unix.Fchownat(int(dst.Fd()), base, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(int(dst.Fd()), base, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	attrs, err := listXattrs(childOf(src, base))
	if err != nil {
		return err
	}
	for name, value := range attrs {
		if err := setXattr(childOf(dst, base), name, value); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(int(dst.Fd()), base, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
