package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// flush writes the parents of the current path.
func (d *differ) flush() error {
	for i, hdr := range d.pending {
		if hdr == nil {
			continue
		}
		if err := d.tar.WriteHeader(hdr); err != nil {
			return fmt.Errorf("write %.200q: %w", hdr.Name, err)
		}
		d.pending[i] = nil // stays as the level's place
	}
	return nil
}

// emit writes an entry for what is at base in dir, after its parents.
func (d *differ) emit(name, base string, dir *os.File, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.write(name, base, dir, st); err != nil {
		return fmt.Errorf("write %.200q: %w", name, err)
	}
	return nil
}

func (d *differ) write(name, base string, dir *os.File, st *unix.Stat_t) error {
	id := inode{uint64(st.Dev), st.Ino}
	if first, ok := d.links[id]; ok && st.Nlink > 1 {
		hdr, err := d.header(name, childOf(dir, base), st)
		if err != nil {
			return err
		}
		hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, first, 0, nil
		return d.tar.WriteHeader(hdr)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if err := d.writeFile(name, base, dir); err != nil {
			return err
		}
	case unix.S_IFLNK:
		hdr, err := d.header(name, childOf(dir, base), st)
		if err != nil {
			return err
		}
		if hdr.Linkname, err = readlink(dir, base); err != nil {
			return changing(err)
		}
		return d.tar.WriteHeader(hdr)
	default:
		hdr, err := d.header(name, childOf(dir, base), st)
		if err != nil {
			return err
		}
		if err := d.tar.WriteHeader(hdr); err != nil {
			return err
		}
	}
	if st.Nlink > 1 {
		d.links[id] = name
	}
	return nil
}

// writeFile writes exactly as much as the file had when it was opened.
func (d *differ) writeFile(name, base string, dir *os.File) error {
	f, err := openRegular(dir, base)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	hdr, err := d.header(name, opened(f), &st)
	if err != nil {
		return err
	}
	hdr.Size = st.Size
	if err := d.tar.WriteHeader(hdr); err != nil {
		return err
	}
	left := st.Size
	for left > 0 {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(d.buf[:min(int64(len(d.buf)), left)])
		if err == io.EOF {
			return errdefs.FailedPrecondition("the file shrinks while it is read")
		}
		if err != nil {
			return err
		}
		if _, err := d.tar.Write(d.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// header describes a file; file is the same file.
func (d *differ) header(name string, file ref, st *unix.Stat_t) (*tar.Header, error) {
	uid, gid := d.owner(st)
	hdr := &tar.Header{
		Name:    name,
		Mode:    int64(st.Mode & 0o7777),
		Uid:     int(uid),
		Gid:     int(gid),
		ModTime: d.time(st),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		hdr.Typeflag = tar.TypeReg
	case unix.S_IFDIR:
		hdr.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		hdr.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil, fmt.Errorf("%.200q has mode %o", name, st.Mode)
	}
	attrs, err := keptXattrs(file)
	if err != nil {
		return nil, changing(err)
	}
	if len(attrs) > 0 {
		hdr.Format = tar.FormatPAX
		hdr.PAXRecords = make(map[string]string, len(attrs))
		for k, v := range attrs {
			hdr.PAXRecords[paxXattr+k] = string(v)
		}
	}
	return hdr, nil
}

func (d *differ) time(st *unix.Stat_t) time.Time {
	t := time.Unix(st.Mtim.Sec, 0)
	if e := d.source.Epoch; e != nil && t.After(*e) {
		return e.Truncate(time.Second)
	}
	return t
}

// keptXattrs are the attributes that mean the same elsewhere.
func keptXattrs(file ref) (map[string][]byte, error) {
	attrs, err := listXattrs(file)
	maps.DeleteFunc(attrs, func(name string, _ []byte) bool {
		return name != "security.capability" && !strings.HasPrefix(name, "user.")
	})
	return attrs, err
}

func equalAttrs(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

func (d *differ) emitWhiteout(name string) error {
	if err := d.flush(); err != nil {
		return err
	}
	dir, base := path.Split(name)
	return d.tar.WriteHeader(whiteoutHeader(dir + whiteout + base))
}

func whiteoutHeader(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: epoch}
}
