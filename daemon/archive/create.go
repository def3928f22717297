package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// create makes what an entry says; keep says that its directory is there already.
func (u *unpacker) create(p place, hdr *tar.Header, r io.Reader, keep bool) error {
	if u.Owner == nil && (!isID(hdr.Uid) || !isID(hdr.Gid)) {
		return fmt.Errorf("%s: owner %d:%d is out of range", p.full, hdr.Uid, hdr.Gid)
	}
	fd := int(p.dir.Fd())
	var err error
	switch hdr.Typeflag {
	case tar.TypeDir:
		return u.directory(p, hdr, keep)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(p, hdr, r)
	case tar.TypeLink:
		return u.hardlink(p, hdr)
	case tar.TypeSymlink:
		err = unix.Symlinkat(hdr.Linkname, fd, p.base)
	case tar.TypeFifo:
		err = unix.Mknodat(fd, p.base, unix.S_IFIFO|0o600, 0)
	case tar.TypeBlock, tar.TypeChar:
		err = device(fd, p.base, hdr)
	default:
		return fmt.Errorf("unhandled tar header type %d", hdr.Typeflag)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", p.full, err)
	}
	return u.attributesAt(p, hdr)
}

// isID leaves out 2^32-1, which means "as it is".
func isID(n int) bool { return n >= 0 && int64(n) < 1<<32-1 }

func (u *unpacker) directory(p place, hdr *tar.Header, keep bool) error {
	if !keep {
		if err := unix.Mkdirat(int(p.dir.Fd()), p.base, 0o700); err != nil {
			return fmt.Errorf("mkdir %s: %w", p.full, err)
		}
	}
	f, err := openAt(p.dir, p.base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%s: %w", p.full, err)
	}
	defer f.Close()
	u.dirs = append(u.dirs, directory{p.full, times(hdr)})
	if err := u.attributes(f, hdr); err != nil {
		return fmt.Errorf("%s: %w", p.full, err)
	}
	return nil
}

func (u *unpacker) file(p place, hdr *tar.Header, r io.Reader) error {
	f, err := openAt(p.dir, p.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return fmt.Errorf("%s: %w", p.full, err)
	}
	defer f.Close()
	if sparse(hdr) {
		err = u.holes(f, r, hdr.Size)
	} else {
		err = u.data(f, r)
	}
	if err != nil {
		return err
	}
	if err := u.attributes(f, hdr); err != nil {
		return fmt.Errorf("%s: %w", p.full, err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, openedPath(f), times(hdr), 0); err != nil {
		return fmt.Errorf("set times of %s: %w", p.full, err)
	}
	return f.Close()
}

// pieces is how many parts of the buffer are under way in a long file.
const pieces = 4

// data copies a file's content. Pieces of a long one are written while the next come in,
// so that the client, whose socket takes little, does not wait for the file system.
func (u *unpacker) data(f *os.File, r io.Reader) error {
	size := len(u.buf) / pieces
	n, err := fill(r, u.buf[:size])
	if errors.Is(err, io.EOF) {
		return u.write(f, u.buf[:n])
	}
	free, full := make(chan []byte, pieces), make(chan []byte, pieces)
	for i := 1; i < pieces; i++ {
		free <- u.buf[i*size : (i+1)*size]
	}
	written := make(chan error, 1)
	go func() { written <- u.writeAll(f, full, free) }()
	full <- u.buf[:n]
	for err == nil {
		p, ok := <-free
		if !ok { // writing has failed
			break
		}
		n, err = fill(r, p[:size])
		full <- p[:n]
	}
	close(full)
	if err := <-written; err != nil {
		return err
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// writeAll writes what comes in full until that is closed, and gives it back in free,
// which it closes at the end.
func (u *unpacker) writeAll(f *os.File, full <-chan []byte, free chan<- []byte) error {
	defer close(free)
	for p := range full {
		if err := u.write(f, p); err != nil {
			return err
		}
		free <- p
	}
	return nil
}

func (u *unpacker) write(f *os.File, p []byte) error {
	if err := u.goOn(); err != nil {
		return err
	}
	_, err := f.Write(p)
	return err
}

// fill reads until p is full, or the error is not nil.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// maxSparse bounds what a sparse file may claim, in bytes: its holes cost no input.
const maxSparse = 512 << 30

func sparse(hdr *tar.Header) bool {
	return hdr.Typeflag == tar.TypeGNUSparse || hdr.PAXRecords["GNU.sparse.major"] != "" || hdr.PAXRecords["GNU.sparse.map"] != ""
}

// holes writes a sparse file: its zeros are left out.
func (u *unpacker) holes(f *os.File, r io.Reader, size int64) error {
	if size > maxSparse {
		return fmt.Errorf("sparse file of %d bytes is larger than %d", size, int64(maxSparse))
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	const block = 4096
	for off := int64(0); ; {
		n, err := fill(r, u.buf)
		if err := u.goOn(); err != nil {
			return err
		}
		for at := 0; at < n; at += block {
			part := u.buf[at:min(at+block, n)]
			if bytes.Count(part, []byte{0}) == len(part) {
				continue
			}
			if _, err := f.WriteAt(part, off+int64(at)); err != nil {
				return err
			}
		}
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hardlink links to an entry of the archive, or to what was there. Owner, mode and
// times are the file's already.
func (u *unpacker) hardlink(p place, hdr *tar.Header) error {
	target := path.Join(u.Dir, hdr.Linkname)
	from, err := u.Root.OpenInRoot(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		err = unix.Linkat(int(from.Fd()), path.Base(target), int(p.dir.Fd()), p.base, 0)
		from.Close()
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: target, New: p.full, Err: cause(err)}
	}
	return nil
}

func device(dir int, base string, hdr *tar.Header) error {
	mode := uint32(unix.S_IFCHR)
	if hdr.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	if !isID(int(hdr.Devmajor)) || !isID(int(hdr.Devminor)) {
		return fmt.Errorf("device %d:%d is out of range", hdr.Devmajor, hdr.Devminor)
	}
	return unix.Mknodat(dir, base, mode|0o600, int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)))) //nolint:gosec // checked
}
