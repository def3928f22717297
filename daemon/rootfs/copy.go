package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyTo copies the content of the directory path of the tree into the directory dst,
// and gives dst itself the owner, mode, times and attributes of path. Owner, mode,
// xattrs, times, hard links and device nodes are kept; sockets are left out. Both trees
// are walked by descriptors, so that neither can lead the copy elsewhere while it runs.
// fs.ErrNotExist when there is no such path.
func (r *Root) CopyTo(ctx context.Context, path string, dst *os.File) error {
	src, err := r.OpenInRoot(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("source %s is not a directory", path)
	}
	c := &copier{ctx: ctx, links: map[inode]*os.File{}}
	defer c.close()
	if err := c.dir(src, dst); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// maxLinks bounds the files that are kept open to be linked again; further ones
// become copies of their own.
const maxLinks = 1024

type copier struct {
	ctx   context.Context
	links map[inode]*os.File // files with several names, as copied

	names, value [maxXattr]byte // of attributes
}

func (c *copier) close() {
	for _, f := range c.links {
		f.Close()
	}
}

// dir copies the entries of one directory, then what it is itself.
func (c *copier) dir(src, dst *os.File) error {
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		names, err := src.Readdirnames(512)
		for _, name := range names {
			if err := c.entry(src, dst, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return c.finish(src, dst, &st)
}

func (c *copier) entry(src, dst *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(src, dst, name)
	case unix.S_IFREG:
		return c.regular(src, dst, name, &st)
	case unix.S_IFLNK:
		return c.symlink(src, dst, name, &st)
	case unix.S_IFIFO, unix.S_IFCHR, unix.S_IFBLK:
		if err := unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev)); err != nil { //nolint:gosec // a device number
			return fmt.Errorf("mknodat: %w", err)
		}
		return c.finishPath(src, dst, name, &st)
	}
	return nil // a socket is of no use without its listener
}

func (c *copier) subdir(src, dst *os.File, name string) error {
	from, err := openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return fmt.Errorf("mkdirat: %w", err)
	}
	to, err := openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.dir(from, to)
}

func (c *copier) regular(src, dst *os.File, name string, st *unix.Stat_t) error {
	id := inode{st.Dev, st.Ino}
	if first := c.links[id]; first != nil {
		err := unix.Linkat(int(first.Fd()), "", int(dst.Fd()), name, unix.AT_EMPTY_PATH)
		if err != nil {
			return fmt.Errorf("linkat: %w", err)
		}
		return nil
	}
	from, err := openat(src, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := unix.Fstat(int(from.Fd()), st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("changed while being copied")
	}
	to, err := openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	if st.Nlink > 1 && len(c.links) < maxLinks {
		c.links[id] = to
	} else {
		defer to.Close()
	}
	if err := c.data(from, to); err != nil {
		return err
	}
	return c.finish(from, to, st)
}

// chunk is how much is copied between two looks at the context; within it the kernel
// copies by itself (copy_file_range).
const chunk = 64 << 20

func (c *copier) data(from, to *os.File) error {
	for {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := io.Copy(to, io.LimitReader(from, chunk))
		if err != nil || n < chunk {
			return err
		}
	}
}

func (c *copier) symlink(src, dst *os.File, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(src.Fd()), name, buf)
	if err != nil {
		return fmt.Errorf("readlinkat: %w", err)
	}
	if err := unix.Symlinkat(string(buf[:n]), int(dst.Fd()), name); err != nil {
		return fmt.Errorf("symlinkat: %w", err)
	}
	return c.finishPath(src, dst, name, st)
}

func openat(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "openat", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// finish gives an open file what its source has. The owner comes first, since a change
// of it drops set-uid bits and capabilities; the times last.
func (c *copier) finish(src, dst *os.File, st *unix.Stat_t) error {
	fd := int(dst.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("fchown: %w", err)
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return fmt.Errorf("fchmod: %w", err)
	}
	if err := c.copyXattrs(fileXattrs(src, dst)); err != nil {
		return err
	}
	return utimes(unix.AT_FDCWD, fdPath(dst), st, 0)
}

// finishPath does the same for what can't be opened: a link, a FIFO, a device.
func (c *copier) finishPath(src, dst *os.File, name string, st *unix.Stat_t) error {
	fd := int(dst.Fd())
	if err := unix.Fchownat(fd, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("fchownat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := chmodNode(dst, name, st.Mode); err != nil {
			return err
		}
	}
	if err := c.copyXattrs(entryXattrs(src, dst, name)); err != nil {
		return err
	}
	return utimes(fd, name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// chmodNode changes the mode of a node through a descriptor that follows no link.
func chmodNode(dir *os.File, name string, mode uint32) error {
	f, err := openat(dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Chmod(fdPath(f), mode&0o7777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// fdPath leads to an open file, even one opened with O_PATH.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// entryPath names an entry of an open directory, for calls that follow no link.
func entryPath(dir *os.File, name string) string { return fdPath(dir) + "/" + name }

func utimes(dirfd int, path string, st *unix.Stat_t, flags int) error {
	if err := unix.UtimesNanoAt(dirfd, path, []unix.Timespec{st.Atim, st.Mtim}, flags); err != nil {
		return fmt.Errorf("utimensat: %w", err)
	}
	return nil
}

// maxXattr is the kernel's bound for names and for one value, in bytes.
const maxXattr = 64 << 10

// xattrs reaches the attributes of one source and its copy.
type xattrs struct {
	list func(names []byte) (int, error)
	get  func(name string, value []byte) (int, error)
	set  func(name string, value []byte, flags int) error
}

func fileXattrs(src, dst *os.File) xattrs {
	from, to := int(src.Fd()), int(dst.Fd())
	return xattrs{
		list: func(names []byte) (int, error) { return unix.Flistxattr(from, names) },
		get:  func(name string, value []byte) (int, error) { return unix.Fgetxattr(from, name, value) },
		set:  func(name string, value []byte, flags int) error { return unix.Fsetxattr(to, name, value, flags) },
	}
}

func entryXattrs(src, dst *os.File, name string) xattrs {
	from, to := entryPath(src, name), entryPath(dst, name)
	return xattrs{
		list: func(names []byte) (int, error) { return unix.Llistxattr(from, names) },
		get:  func(name string, value []byte) (int, error) { return unix.Lgetxattr(from, name, value) },
		set:  func(name string, value []byte, flags int) error { return unix.Lsetxattr(to, name, value, flags) },
	}
}

// copyXattrs copies what the target's file system takes.
func (c *copier) copyXattrs(x xattrs) error {
	n, err := x.list(c.names[:])
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listxattr: %w", err)
	}
	for _, name := range strings.Split(string(c.names[:n]), "\x00") {
		if name == "" {
			continue
		}
		size, err := x.get(name, c.value[:])
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue
		}
		if err != nil {
			return fmt.Errorf("getxattr %s: %w", name, err)
		}
		if err := x.set(name, c.value[:size], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("setxattr %s: %w", name, err)
		}
	}
	return nil
}
