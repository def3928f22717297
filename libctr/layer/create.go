package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// create makes what the entry says at base in parent; name is its path.
func (a *applier) create(ctx context.Context, parent *os.File, name, base string, hdr *tar.Header, r io.Reader) error {
	if hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) >= 1<<32-1 || int64(hdr.Gid) >= 1<<32-1 {
		return errdefs.InvalidArgument("owner %d:%d is out of range", hdr.Uid, hdr.Gid)
	}
	if hdr.Typeflag == tar.TypeDir {
		return a.directory(parent, name, base, hdr)
	}
	if err := a.clear(parent, base); err != nil {
		return err
	}
	fd := int(parent.Fd())
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return a.file(ctx, parent, base, hdr, r)
	case tar.TypeLink:
		return a.hardlink(parent, base, hdr)
	case tar.TypeSymlink:
		if len(hdr.Linkname) > MaxName {
			return errdefs.InvalidArgument("link target of %d bytes is longer than %d", len(hdr.Linkname), MaxName)
		}
		if err := unix.Symlinkat(hdr.Linkname, fd, base); err != nil {
			return fmt.Errorf("make symbolic link: %w", classify(err))
		}
	case tar.TypeFifo:
		if err := unix.Mknodat(fd, base, unix.S_IFIFO|0o600, 0); err != nil {
			return fmt.Errorf("make fifo: %w", err)
		}
	case tar.TypeBlock, tar.TypeChar:
		if skip, err := a.device(fd, base, hdr); skip || err != nil {
			return err
		}
	case tar.TypeXGlobalHeader:
		return nil // git puts one in front
	default:
		return errdefs.InvalidArgument("entries of type %q are not known", hdr.Typeflag)
	}
	return a.attributesAt(parent, base, hdr)
}

// directory makes a directory or takes the one that is there.
func (a *applier) directory(parent *os.File, name, base string, hdr *tar.Header) error {
	err := unix.Mkdirat(int(parent.Fd()), base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = nil
		case a.deleted(parent, base):
			err = a.replaceWhiteout(parent, base)
		default:
			if err := a.clear(parent, base); err != nil {
				return err
			}
			err = unix.Mkdirat(int(parent.Fd()), base, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("make directory: %w", classify(err))
	}
	f, err := openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	if a.mark&impliedBelow != 0 {
		if err := unmark(f); err != nil {
			return err
		}
	}
	a.dirs = append(a.dirs, newDirectory(name, hdr))
	return a.attributes(f, hdr)
}

// openAt opens a child without following it.
func openAt(parent *os.File, base string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// file writes a regular file.
func (a *applier) file(ctx context.Context, parent *os.File, base string, hdr *tar.Header, r io.Reader) error {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("create: %w", classify(err))
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if sparse(hdr) {
		err = a.copySparse(ctx, f, hdr, r)
	} else {
		err = a.copy(ctx, f, r)
	}
	if err != nil {
		return err
	}
	if err := a.attributes(f, hdr); err != nil {
		return err
	}
	access, mod := times(hdr)
	if err := futimens(f, access, mod); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return f.Close()
}

func (a *applier) copy(ctx context.Context, f *os.File, r io.Reader) error {
	for {
		n, err := r.Read(a.buf)
		if n > 0 {
			if _, err := f.Write(a.buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func sparse(hdr *tar.Header) bool {
	return hdr.Typeflag == tar.TypeGNUSparse || hdr.PAXRecords["GNU.sparse.major"] != "" || hdr.PAXRecords["GNU.sparse.map"] != ""
}

// copySparse leaves out blocks of zeros, which a sparse entry claims at no cost.
func (a *applier) copySparse(ctx context.Context, f *os.File, hdr *tar.Header, r io.Reader) error {
	if hdr.Size > maxSparse {
		return errdefs.InvalidArgument("sparse file of %d bytes is larger than %d", hdr.Size, int64(maxSparse))
	}
	if err := f.Truncate(hdr.Size); err != nil {
		return err
	}
	const block = 4096
	for off := int64(0); ; {
		n, err := io.ReadFull(r, a.buf)
		for at := 0; at < n; at += block {
			part := a.buf[at:min(at+block, n)]
			if zero(part) {
				continue
			}
			if _, err := f.WriteAt(part, off+int64(at)); err != nil {
				return err
			}
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && off == hdr.Size {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// hardlink links to a path of this layer; one that only a lower layer has is
// copied up first, as overlayfs itself would.
func (a *applier) hardlink(parent *os.File, base string, hdr *tar.Header) error {
	name, err := clean(hdr.Linkname)
	if err != nil {
		return err
	}
	dir, target := path.Split(name)
	if target == "" {
		return errdefs.InvalidArgument("hard link to the root")
	}
	from, err := openIn(a.root, strings.TrimSuffix(dir, "/"), unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		err = unix.Linkat(int(from.Fd()), target, int(parent.Fd()), base, 0)
		from.Close()
	}
	if errors.Is(err, unix.ENOENT) && a.alone() {
		return errdefs.FailedPrecondition("hard link to %.200q: it is not in this layer, and what is below is not known", hdr.Linkname)
	}
	if errors.Is(err, unix.ENOENT) && a.target.Overlay {
		err = a.linkLower(parent, base, name)
	}
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, classify(err))
	}
	return nil
}

// linkLower copies a lower layer's file up to its own path and links base to it.
func (a *applier) linkLower(parent *os.File, base, name string) error {
	src, err := a.openLower(name)
	if err != nil {
		return err
	}
	defer src.Close()
	// Two directories are open at once here, so the kept one is not used for the copy.
	keep := a.parent
	a.parent = nil
	dir, target := path.Split(name)
	up, err := a.openParent(strings.TrimSuffix(dir, "/"))
	if err == nil {
		err = a.copyUp(up, target, src)
	}
	if err == nil {
		err = unix.Linkat(int(up.Fd()), target, int(parent.Fd()), base, 0)
	}
	a.forgetParent()
	if keep != nil {
		keep.Close()
	}
	return err
}

// openLower opens the regular file that the lower layers show at name.
func (a *applier) openLower(name string) (*os.File, error) {
	for _, lower := range a.lower {
		f, err := openIn(lower, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			f.Close()
			return nil, unix.ENOENT // hidden by a whiteout, or nothing to link to
		}
		return f, nil
	}
	return nil, unix.ENOENT
}

func (a *applier) copyUp(dir *os.File, base string, src *os.File) error {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := io.Copy(f, src); err != nil {
		return err
	}
	return copyAttributes(f, src)
}

// device makes a device node; in a user namespace it can't be made and is skipped.
func (a *applier) device(fd int, base string, hdr *tar.Header) (skip bool, err error) {
	mode := uint32(unix.S_IFCHR)
	if hdr.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	if hdr.Devmajor < 0 || hdr.Devminor < 0 || hdr.Devmajor >= 1<<32 || hdr.Devminor >= 1<<32 {
		return false, errdefs.InvalidArgument("device %d:%d is out of range", hdr.Devmajor, hdr.Devminor)
	}
	err = unix.Mknodat(fd, base, mode|0o600, int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))))
	if errors.Is(err, unix.EPERM) && a.userns {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("make device: %w", err)
	}
	return false, nil
}

// clear removes what is at base, a whole directory too.
func (a *applier) clear(parent *os.File, base string) error {
	err := unix.Unlinkat(int(parent.Fd()), base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("replace: %w", classify(err))
	}
	// RemoveAll opens the parent by its descriptor and follows no link below it.
	if err := os.RemoveAll(childOf(parent, base).path); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	return nil
}
