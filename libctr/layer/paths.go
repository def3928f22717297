package layer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// openIn opens a path as if root were "/", with links on the way followed inside
// it; the kernel asks to try again when something was renamed meanwhile.
func openIn(root *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if name == "" {
		name = "."
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if (err != unix.EAGAIN && err != unix.EINTR) || tries > 100 {
			return nil, err
		}
	}
}

// openParent opens the directory dir below the root, making what is missing. The
// last one is kept, since entries come directory by directory; the result is the
// applier's to close.
func (a *applier) openParent(dir string) (*os.File, error) {
	if a.parent != nil && a.parentPath == dir {
		return a.parent, nil
	}
	f, err := openIn(a.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) && a.target.Overlay {
		f, err = a.makeParents(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open directory %.200q: %w", dir, classify(err))
	}
	a.forgetParent()
	a.parent, a.parentPath = f, dir
	return f, nil
}

// forgetParent closes the kept directory. It need not be called when a path comes
// to lead elsewhere: to change what a directory's path means, an entry must be made
// in another directory, which then takes its place here (a layer that goes through
// links to itself excepted, and that stays inside the root too).
func (a *applier) forgetParent() {
	if a.parent != nil {
		a.parent.Close()
		a.parent = nil
	}
}

// classify tells a layer that contradicts itself from trouble with the disk.
func classify(err error) error {
	for _, errno := range []error{unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENOENT} {
		if errors.Is(err, errno) {
			return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
	}
	return err
}

// makeParents makes the missing directories of a path that no entry has
// announced: like the lower layers' if they have them, else 0755 of root.
func (a *applier) makeParents(dir string) (*os.File, error) {
	cur, err := openIn(a.root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(dir, "/")
	for i, part := range parts {
		next, err := a.step(cur, parts[:i], part)
		cur.Close()
		if err != nil {
			return nil, err
		}
		cur = next
	}
	return cur, nil
}

// step enters part below cur, whose path from the root is above; links are
// followed inside the root.
func (a *applier) step(cur *os.File, above []string, part string) (*os.File, error) {
	full := path.Join(append(slices.Clone(above), part)...)
	f, err := openIn(a.root, full, unix.O_PATH|unix.O_DIRECTORY)
	deleted := errors.Is(err, unix.ENOTDIR) && a.deleted(cur, part)
	if !errors.Is(err, unix.ENOENT) && !deleted {
		return f, err
	}
	var st unix.Stat_t
	if !deleted && unix.Fstatat(int(cur.Fd()), part, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return nil, fmt.Errorf("%.200q is a link that leads nowhere: %w", full, unix.ENOENT)
	}
	if deleted {
		err = a.replaceWhiteout(cur, part)
	} else {
		err = unix.Mkdirat(int(cur.Fd()), part, 0o755)
	}
	if err != nil {
		return nil, err
	}
	f, err = openIn(a.root, full, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	a.made[full] = struct{}{}
	if deleted {
		err = unix.Fchmod(int(f.Fd()), 0o755)
	} else {
		err = a.imply(f, full)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// imply gives a directory that no entry has announced its attributes: those of the one
// that it now hides. Where that is not known yet, it is marked for Rebase.
func (a *applier) imply(f *os.File, name string) error {
	if err := unix.Fchmod(int(f.Fd()), 0o755); err != nil { // whatever the umask
		return err
	}
	if a.alone() {
		a.mark |= impliedBelow
		return mark(f, implied)
	}
	times, err := likeLower(f, a.lower, name)
	if err == nil && times != nil {
		a.dirs = append(a.dirs, *times)
	}
	return err
}

// likeLower gives a directory the attributes of the one that the lower layers show at its
// name, and returns its times, which are to be set again when all is in it; nil when they
// show none.
func likeLower(f *os.File, lowers []*os.File, name string) (*directory, error) {
	for _, lower := range lowers {
		l, err := openIn(lower, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, nil //nolint:nilerr,nilnil // something else hides what is below it
		}
		defer l.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(l.Fd()), &st); err != nil {
			return nil, err
		}
		return &directory{path: name, access: st.Atim, mod: st.Mtim}, copyAttributes(f, l)
	}
	return nil, nil //nolint:nilnil // see above
}

// copyAttributes copies owner, mode, extended attributes and times.
func copyAttributes(to, from *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Fchown(int(to.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(to.Fd()), st.Mode&0o7777); err != nil {
		return err
	}
	attrs, err := listXattrs(opened(from))
	if err != nil {
		return err
	}
	for name, value := range attrs {
		if err := setXattr(opened(to), name, value); err != nil {
			return err
		}
	}
	return futimens(to, st.Atim, st.Mtim)
}

// ref names a file for calls that take only paths. An open file is named by its
// magic link, which must be followed; a child of an open directory by a last
// component, which must not be.
type ref struct {
	path   string
	follow bool
}

func opened(f *os.File) ref {
	return ref{path: fmt.Sprintf("/proc/self/fd/%d", f.Fd()), follow: true}
}

func childOf(parent *os.File, base string) ref {
	return ref{path: opened(parent).path + "/" + base}
}

func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}
