package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/snapshot"
)

// maxDepth bounds how deep a tree is counted: each level holds a descriptor, and a
// container may dig as deep as it likes.
const maxDepth = 1000

// DiskUsage counts the blocks of a tree, files with several names once. The tree may
// change meanwhile: no link is followed, and what has gone does not count.
func DiskUsage(ctx context.Context, root string) (snapshot.Usage, error) {
	u, _, err := Survey(ctx, root)
	return u, err
}

// Survey is DiskUsage, and when something in the tree was changed last, by the files' own
// change times; in the far future when not all of it was seen.
func Survey(ctx context.Context, root string) (u snapshot.Usage, changed time.Time, err error) {
	dir, err := os.OpenFile(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if gone(err) {
		return u, unknown, nil
	}
	if err != nil {
		return u, unknown, err
	}
	defer dir.Close()
	c := counter{ctx: ctx, linked: map[inode]bool{}}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return u, unknown, fmt.Errorf("fstat %s: %w", root, err)
	}
	c.add(&st)
	if err := c.directory(dir, 0); err != nil {
		return u, unknown, fmt.Errorf("count %s: %w", root, err)
	}
	return c.usage, c.changed, nil
}

// unknown is when a tree was changed that was not seen whole.
var unknown = time.Unix(1<<40, 0)

type inode struct{ dev, ino uint64 }

// counter is one DiskUsage.
type counter struct {
	ctx    context.Context
	linked map[inode]bool // files with several names that have been counted
	usage  snapshot.Usage

	changed time.Time
}

func (c *counter) add(st *unix.Stat_t) {
	if t := time.Unix(st.Ctim.Unix()); t.After(c.changed) {
		c.changed = t
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{st.Dev, st.Ino}
		if c.linked[id] {
			return
		}
		c.linked[id] = true
	}
	c.usage.Inodes++
	c.usage.Size += st.Blocks * 512
}

// directory counts what is in dir.
func (c *counter) directory(dir *os.File, depth int) error {
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := c.entry(dir, name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *counter) entry(dir *os.File, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fstatat: %w", err)
	}
	c.add(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if depth == maxDepth {
		c.changed = unknown
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("openat: %w", err)
	}
	sub := os.NewFile(uintptr(fd), name)
	defer sub.Close()
	return c.directory(sub, depth+1)
}

// gone says that what was there is not, or is something else.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
