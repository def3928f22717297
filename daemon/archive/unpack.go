package archive

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

	"gantry/api/compression"
	"gantry/api/failpoint"
	"gantry/daemon/rootfs"
)

// Target is where an archive goes.
type Target struct {
	Root *rootfs.Root
	Dir  string // absolute, clean, without links: Root.Resolve's
	// KeepKind refuses to replace a directory by something else and the reverse.
	KeepKind bool
	// Owner, when not nil, owns all that is made, whatever the archive says. As there, the
	// ids are those inside.
	Owner *Owner
	// Go is asked before each entry and each piece of data; its error ends the work.
	Go func() error
}

// Owner is a user and group.
type Owner struct{ UID, GID int }

// Unpack makes what the tar r holds, packed with anything that api/compression
// knows. Files replace what is there, directories become one with those that are. The
// archive's own root entry "." changes nothing. On error a part is there.
func Unpack(ctx context.Context, r io.Reader, t Target) error {
	plain, _, err := compression.Reader(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	u := &unpacker{ctx: ctx, Target: t, buf: make([]byte, bufferSize)}
	defer u.forgetParent()
	tr := tar.NewReader(plain)
	for {
		if err := u.goOn(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return err
		}
		if err := u.entry(hdr, tr); err != nil {
			return err
		}
	}
}

// unpacker is one archive being unpacked.
type unpacker struct {
	ctx context.Context
	Target
	buf  []byte
	dirs []directory // whose times are set last

	parentPath string
	parent     *os.File // kept, since entries come directory by directory; nil is none
}

type directory struct {
	path  string
	times []unix.Timespec
}

func (u *unpacker) goOn() error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if u.Go == nil {
		return nil
	}
	return u.Go()
}

// place is where an entry goes: base in the open directory dir, at being its path.
type place struct {
	dir      *os.File
	at, base string
	full     string
}

func (u *unpacker) entry(hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean(hdr.Name)
	full := path.Join(u.Dir, name)
	if err := u.check(hdr, name, full); err != nil {
		return err
	}
	if full == u.Dir {
		return u.top(hdr, name)
	}
	p := place{full: full, at: path.Dir(full), base: path.Base(full)}
	var err error
	if p.dir, err = u.openParent(p.at); err != nil {
		return err
	}
	keep, err := u.makeRoom(p, hdr)
	if err != nil {
		return err
	}
	failpoint.Hit("daemon/archive.unpack.room")
	return u.create(p, hdr, r, keep)
}

// check refuses what leads out of the directory, and what no kernel takes.
func (u *unpacker) check(hdr *tar.Header, name, full string) error {
	if len(full) > 16*maxName || len(hdr.Linkname) >= maxName || strings.ContainsRune(name+hdr.Linkname, 0) {
		return fmt.Errorf("%.200q: name or link is too long or has a null byte", name)
	}
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("%q is outside of %q", hdr.Name, u.Dir)
	}
	switch hdr.Typeflag {
	case tar.TypeLink:
		if to := path.Join(u.Dir, hdr.Linkname); !below(u.Dir, to) {
			return fmt.Errorf("invalid hardlink %q -> %q", to, hdr.Linkname)
		}
	case tar.TypeSymlink:
		if to := path.Join(path.Dir(full), hdr.Linkname); !below(u.Dir, to) {
			return fmt.Errorf("invalid symlink %q -> %q", full, hdr.Linkname)
		}
	}
	return nil
}

func below(dir, name string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(name, dir+"/")
}

// top is an entry of the directory itself.
func (u *unpacker) top(hdr *tar.Header, name string) error {
	isDir := hdr.Typeflag == tar.TypeDir
	switch {
	case name == "." && (isDir || !u.KeepKind):
		return nil
	case !isDir:
		return errNotReplaced(u.Dir, u.Dir)
	}
	f, err := u.Root.OpenInRoot(u.Dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	u.dirs = append(u.dirs, directory{u.Dir, times(hdr)})
	return u.attributes(f, hdr)
}

func errNotReplaced(full, dir string) error {
	return fmt.Errorf("cannot overwrite directory %q with non-directory %q", full, dir)
}

// makeRoom removes what is in an entry's place; keep is true for a directory that a
// directory becomes one with.
func (u *unpacker) makeRoom(p place, hdr *tar.Header) (keep bool, err error) {
	st, err := fstatat(p.dir, p.base)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.full, err)
	}
	isDir, wantDir := kind(&st) == unix.S_IFDIR, hdr.Typeflag == tar.TypeDir
	switch {
	case u.KeepKind && isDir && !wantDir:
		return false, errNotReplaced(p.full, u.Dir)
	case u.KeepKind && !isDir && wantDir:
		return false, fmt.Errorf("cannot overwrite non-directory %q with directory %q", p.full, u.Dir)
	case isDir && wantDir:
		return true, nil
	}
	return false, u.remove(p, 0)
}

// openParent opens an entry's directory, which is made if nothing has announced it.
// The result is the unpacker's to close, at the latest when another is asked for.
func (u *unpacker) openParent(name string) (*os.File, error) {
	if u.parent != nil && u.parentPath == name {
		return u.parent, nil
	}
	u.forgetParent()
	f, err := u.Root.MkdirAll(name, 0o755)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", name, cause(err))
	}
	u.parent, u.parentPath = f, name
	return f, nil
}

func (u *unpacker) forgetParent() {
	if u.parent != nil {
		u.parent.Close()
		u.parent = nil
	}
}

// finish sets the times of directories, now that nothing more is made in them.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		f, err := u.Root.OpenInRoot(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue // replaced by a later entry, or by the container
		}
		err = unix.UtimesNanoAt(unix.AT_FDCWD, openedPath(f), d.times, 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("set times of %s: %w", d.path, err)
		}
	}
	return nil
}
