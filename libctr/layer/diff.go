package layer

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// maxDepth bounds how deep a tree may be: each level holds two descriptors.
const maxDepth = 400

// Source says what Diff compares.
type Source struct {
	Lower string // the state before, a directory
	Upper string // the state after
	// Overlay: Upper is not a whole state but an overlay's upper directory above
	// Lower, with overlayfs's whiteouts: what it does not have is unchanged.
	Overlay   bool
	UserXattr bool // the overlay marks with user.overlay.* in place of trusted.overlay.*
	// Inside turns Upper's owners into those that Lower and the layer have; nil changes none.
	Inside func(uid, gid uint32) (insideUID, insideGID uint32)
	// Epoch, if set, takes the place of all times after it.
	Epoch *time.Time
}

// Diff writes the changes from lower to upper as a layer tar, in the order of the
// paths, with their parent directories; the same trees give the same bytes. Times
// are whole seconds, names of owners are left out; of extended attributes
// security.capability and user.* are kept. Sockets are skipped. The upper tree may
// be a container's: it is walked by descriptors and no link is followed.
func Diff(ctx context.Context, w io.Writer, s Source) error {
	d := &differ{ctx: ctx, source: s, tar: tar.NewWriter(w), links: make(map[inode]string), buf: make([]byte, 256<<10)}
	return d.run() // the trees' own paths may mean nothing to who asked
}

type inode struct{ dev, ino uint64 }

// differ is one Diff.
type differ struct {
	ctx     context.Context
	source  Source
	tar     *tar.Writer
	links   map[inode]string // written files with further names
	pending []*tar.Header    // parents of the current path that are not written yet
	buf     []byte
}

func (d *differ) run() error {
	lower, err := os.OpenFile(d.source.Lower, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer lower.Close()
	upper, err := os.OpenFile(d.source.Upper, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer upper.Close()
	if err := d.root(lower, upper); err != nil {
		return err
	}
	if err := d.directory("", lower, upper, 0); err != nil {
		return err
	}
	return d.tar.Close()
}

// root writes the root's own entry when its owner or mode has changed.
func (d *differ) root(lower, upper *os.File) error {
	var l, u unix.Stat_t
	if err := errors.Join(unix.Fstat(int(lower.Fd()), &l), unix.Fstat(int(upper.Fd()), &u)); err != nil {
		return err
	}
	if l.Mode == u.Mode && l.Uid == u.Uid && l.Gid == u.Gid {
		return nil
	}
	hdr, err := d.header("./", opened(upper), &u)
	if err != nil {
		return err
	}
	return d.tar.WriteHeader(hdr)
}

// directory compares what is in two directories; lower is nil when there was none.
func (d *differ) directory(name string, lower, upper *os.File, depth int) error {
	if depth > maxDepth {
		return errdefs.InvalidArgument("%.200q: more than %d directories deep", name, maxDepth)
	}
	before, err := names(lower)
	if err != nil {
		return err
	}
	after, err := names(upper)
	if err != nil {
		return err
	}
	all := after
	if !d.source.Overlay {
		all = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(before), after...))))
	}
	for _, base := range all {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if err := d.child(path.Join(name, base), base, lower, upper, depth); err != nil {
			return err
		}
	}
	return nil
}

// names lists a directory in order; none for nil.
func names(dir *os.File) ([]string, error) {
	if dir == nil {
		return nil, nil
	}
	list, err := dir.Readdirnames(-1)
	slices.Sort(list)
	return list, err
}

// child compares one name in both directories. That it has gone, or become something
// else, before it could be written is no error: containers run while they are compared.
func (d *differ) child(name, base string, lower, upper *os.File, depth int) error {
	err := d.compare(name, base, lower, upper, depth)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ESTALE) {
		return nil
	}
	return err
}

func (d *differ) compare(name, base string, lower, upper *os.File, depth int) error {
	l, hadIt, err := stat(lower, base)
	if err != nil {
		return err
	}
	u, hasIt, err := stat(upper, base)
	if err != nil {
		return err
	}
	if hasIt && strings.HasPrefix(base, whiteout) {
		return errdefs.InvalidArgument("%.200q: a layer can't carry names that start with %q", name, whiteout)
	}
	deleted := !hasIt || d.source.Overlay && isWhiteout(&u)
	switch {
	case deleted && hadIt:
		return d.emitWhiteout(name)
	case deleted:
		return nil
	case u.Mode&unix.S_IFMT == unix.S_IFDIR:
		return d.subdirectory(name, base, lower, upper, &l, &u, hadIt, depth)
	}
	if hadIt {
		same, err := d.same(base, lower, upper, &l, &u)
		if err != nil || same {
			return err
		}
	}
	return d.emit(name, base, upper, &u)
}

// stat does not follow; ok is false when there is nothing.
func stat(dir *os.File, base string) (st unix.Stat_t, ok bool, err error) {
	if dir == nil {
		return st, false, nil
	}
	err = unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return st, false, nil
	}
	return st, err == nil, err
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// subdirectory compares a directory with what was at its name.
func (d *differ) subdirectory(name, base string, lower, upper *os.File, l, u *unix.Stat_t, hadIt bool, depth int) error {
	up, err := openAt(upper, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return changing(err)
	}
	defer up.Close()
	hdr, err := d.header(name+"/", opened(up), u)
	if err != nil {
		return err
	}
	var low *os.File
	changed := true
	if hadIt && l.Mode&unix.S_IFMT == unix.S_IFDIR {
		if low, err = openAt(lower, base, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return err
		}
		defer low.Close()
		if changed, err = d.attributesDiffer(opened(low), opened(up), l, u); err != nil {
			return err
		}
	}
	opaque := low != nil && d.source.Overlay && d.isOpaque(up)
	d.pending = append(d.pending, hdr)
	if changed || opaque {
		if err := d.flush(); err != nil {
			return err
		}
	}
	if opaque {
		low = nil
		if err := d.tar.WriteHeader(whiteoutHeader(name + "/" + whiteoutOpaque)); err != nil {
			return err
		}
	}
	if err := d.directory(name, low, up, depth+1); err != nil {
		return err
	}
	if n := len(d.pending); n > 0 {
		d.pending = d.pending[:n-1]
	}
	return nil
}

func (d *differ) isOpaque(dir *os.File) bool {
	name := "trusted.overlay.opaque"
	if d.source.UserXattr {
		name = "user.overlay.opaque"
	}
	value := make([]byte, 1)
	n, err := unix.Fgetxattr(int(dir.Fd()), name, value)
	return err == nil && n == 1 && value[0] == 'y'
}

// same says whether a file is as it was. Equal times in whole seconds prove
// nothing, since layers have no finer ones: then the data is compared.
func (d *differ) same(base string, lower, upper *os.File, l, u *unix.Stat_t) (bool, error) {
	if l.Mode&unix.S_IFMT != u.Mode&unix.S_IFMT || l.Rdev != u.Rdev || l.Size != u.Size {
		return false, nil
	}
	differ, err := d.attributesDiffer(childOf(lower, base), childOf(upper, base), l, u)
	if err != nil || differ {
		return false, err
	}
	if u.Mode&unix.S_IFMT == unix.S_IFLNK {
		a, aerr := readlink(lower, base)
		b, berr := readlink(upper, base)
		return a == b, changing(errors.Join(aerr, berr))
	}
	if l.Mtim != u.Mtim {
		return false, nil
	}
	if u.Mode&unix.S_IFMT != unix.S_IFREG || l.Mtim.Nsec != 0 {
		return true, nil
	}
	return d.sameData(base, lower, upper)
}

// attributesDiffer compares mode, owner and the attributes that a layer keeps.
func (d *differ) attributesDiffer(lower, upper ref, l, u *unix.Stat_t) (bool, error) {
	if uid, gid := d.owner(u); l.Mode != u.Mode || l.Uid != uid || l.Gid != gid {
		return true, nil
	}
	a, err := keptXattrs(lower)
	if err != nil {
		return false, err
	}
	b, err := keptXattrs(upper)
	if err != nil {
		return false, changing(err)
	}
	return !equalAttrs(a, b), nil
}

// owner is who owns a file of the upper tree, in the ids of the layer.
func (d *differ) owner(u *unix.Stat_t) (uid, gid uint32) {
	if d.source.Inside == nil {
		return u.Uid, u.Gid
	}
	return d.source.Inside(u.Uid, u.Gid)
}

func (d *differ) sameData(base string, lower, upper *os.File) (bool, error) {
	a, err := openRegular(lower, base)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := openRegular(upper, base)
	if err != nil {
		return false, err
	}
	defer b.Close()
	half := len(d.buf) / 2
	for {
		if err := d.ctx.Err(); err != nil {
			return false, err
		}
		n, aerr := io.ReadFull(a, d.buf[:half])
		m, berr := io.ReadFull(b, d.buf[half:])
		if n != m || string(d.buf[:n]) != string(d.buf[half:half+m]) {
			return false, nil
		}
		if aerr != nil || berr != nil {
			return ended(aerr) && ended(berr), nil
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// openRegular opens a file that was one when it was looked at; it never blocks.
func openRegular(dir *os.File, base string) (*os.File, error) {
	f, err := openAt(dir, base, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, changing(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, errors.Join(changing(unix.ESTALE), err)
	}
	return f, nil
}

// changing names the cause of errors that only a tree in use gives.
func changing(err error) error {
	for _, errno := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE, unix.EINVAL} {
		if errors.Is(err, errno) {
			return errdefs.FailedPrecondition("the tree is being changed: %w", err)
		}
	}
	return err
}

func readlink(dir *os.File, base string) (string, error) {
	buf := make([]byte, MaxName)
	n, err := unix.Readlinkat(int(dir.Fd()), base, buf)
	return string(buf[:max(n, 0)]), err
}

// epoch is the time of entries that stand for nothing that has one.
var epoch = time.Unix(0, 0)
