package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"gantry/daemon/rootfs"
	"gantry/daemon/userns"
)

// Pack writes the tar of what is at name, a path of Clean's that Stat has found: a file,
// or a directory with all below it. Entries are named after the path's last element,
// which for "/" is nothing and for "dir/." is ".". Sockets and what vanishes meanwhile
// are left out; a file is as long as it was when its entry began.
func Pack(ctx context.Context, w io.Writer, root *rootfs.Root, name string) error {
	return pack(ctx, w, root.IDs(), func(p *packer) error { return p.path(root, name) })
}

// PackAll writes the tar of all that is in root, with names relative to it and without
// an entry of its own.
func PackAll(ctx context.Context, w io.Writer, root *rootfs.Root) error {
	return pack(ctx, w, root.IDs(), func(p *packer) error {
		dir, err := root.OpenInRoot("/", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer dir.Close()
		return p.children("", dir, 0)
	})
}

func pack(ctx context.Context, w io.Writer, ids userns.Mapping, walk func(*packer) error) error {
	out := bufio.NewWriterSize(w, 64<<10) // for headers; data goes past it
	p := &packer{ctx: ctx, ids: ids, tar: tar.NewWriter(out), links: map[inode]string{}, buf: make([]byte, bufferSize)}
	if err := walk(p); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := p.tar.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return out.Flush()
}

type inode struct{ dev, ino uint64 }

// packer is one archive being written.
type packer struct {
	ctx   context.Context
	ids   userns.Mapping // of the tree; entries have those inside
	tar   *tar.Writer
	links map[inode]string // entries of files with further names
	buf   []byte
}

func (p *packer) path(root *rootfs.Root, name string) error {
	base := path.Base(name)
	info, err := lstat(root, name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		dir, err := root.OpenInRoot(name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer dir.Close()
		if base == "/" {
			base = ""
		}
		return p.directory(base, dir, 0)
	}
	at, _ := path.Split(name)
	dir, err := root.OpenInRoot(at, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	return p.child(base, base, dir, 0)
}

// directory writes an open directory and what is in it.
func (p *packer) directory(name string, dir *os.File, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if err := p.tar.WriteHeader(p.header(name+"/", &st, openedCap(dir))); err != nil {
		return err
	}
	return p.children(name+"/", dir, depth)
}

// children writes what is in a directory in the order of the names.
func (p *packer) children(prefix string, dir *os.File, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%.200q: more than %d directories deep", prefix, maxDepth)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read directory %.200q: %w", prefix, err)
	}
	slices.Sort(names)
	for _, base := range names {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.child(prefix+base, base, dir, depth); err != nil {
			return err
		}
	}
	return nil
}

// child writes what is at base in dir. That it has gone, or become something else, is
// no error: containers run while they are copied from.
func (p *packer) child(name, base string, dir *os.File, depth int) error {
	err := p.entry(name, base, dir, depth)
	if _, gone := errors.AsType[vanished](err); gone {
		return nil
	}
	return err
}

// vanished is an error from before an entry's header was written.
type vanished struct{ error }

func (v vanished) Unwrap() error { return v.error }

func (p *packer) entry(name, base string, dir *os.File, depth int) error {
	st, err := fstatat(dir, base)
	if err != nil {
		return vanished{err}
	}
	switch kind(&st) {
	case unix.S_IFSOCK:
		return nil // a tar has no such thing
	case unix.S_IFDIR:
		sub, err := openAt(dir, base, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return vanished{err}
		}
		defer sub.Close()
		return p.directory(name, sub, depth+1)
	}
	if first, ok := p.links[inode{st.Dev, st.Ino}]; ok && st.Nlink > 1 {
		hdr := p.header(name, &st, nil)
		hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
		return p.tar.WriteHeader(hdr)
	}
	if err := p.write(name, base, dir, &st); err != nil {
		return err
	}
	if st.Nlink > 1 {
		p.links[inode{st.Dev, st.Ino}] = name
	}
	return nil
}

func (p *packer) write(name, base string, dir *os.File, st *unix.Stat_t) error {
	switch kind(st) {
	case unix.S_IFREG:
		return p.file(name, base, dir)
	case unix.S_IFLNK:
		buf := make([]byte, maxName)
		n, err := unix.Readlinkat(int(dir.Fd()), base, buf)
		if err != nil {
			return vanished{fmt.Errorf("readlinkat: %w", err)}
		}
		hdr := p.header(name, st, nil)
		hdr.Linkname = string(buf[:n])
		return p.tar.WriteHeader(hdr)
	}
	return p.tar.WriteHeader(p.header(name, st, childCap(dir, base)))
}

// file writes a regular file. It must not end before its length is reached: an archive
// can't take back what its header says.
func (p *packer) file(name, base string, dir *os.File) error {
	f, err := openAt(dir, base, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return vanished{err}
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return vanished{err}
	}
	if kind(&st) != unix.S_IFREG {
		return vanished{errors.New("is no file any more")}
	}
	if err := p.tar.WriteHeader(p.header(name, &st, openedCap(f))); err != nil {
		return err
	}
	return p.data(f, name, st.Size)
}

func (p *packer) data(f *os.File, name string, size int64) error {
	fd := int(f.Fd())
	for off := int64(0); off < size; {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Pread(fd, p.buf[:min(int64(len(p.buf)), size-off)], off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read %.200q: %w", name, err)
		case n == 0:
			return fmt.Errorf("%.200q has become shorter while it was read", name)
		}
		if _, err := p.tar.Write(p.buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}
