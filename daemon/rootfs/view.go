package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
)

// Bind is a file or directory of the host to be seen in a view.
type Bind struct {
	Source, Destination string
	Writable            bool
	NonRecursive        bool // without what is mounted below the source
}

// Bind mounts binds over the root, in their order, and returns a view of it all. A
// missing mount point is made, and stays: in a read-only root that is EROFS. With
// lock the root itself, not what is bound, becomes read-only at last. The receiver is
// used up. When ctx ends first (a source may be a dead server's) the work ends when
// the kernel lets it.
func (r *Root) Bind(ctx context.Context, binds []Bind, lock bool) (*Root, error) {
	if len(binds) == 0 && !lock {
		return r, nil
	}
	type result struct {
		view *Root
		err  error
	}
	out := make(chan result, 1)
	go func() {
		view, err := r.bind(binds, lock)
		out <- result{view, err}
	}()
	select {
	case res := <-out:
		return res.view, res.err
	case <-ctx.Done():
		go func() {
			if res := <-out; res.err == nil {
				res.view.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func (r *Root) bind(binds []Bind, lock bool) (_ *Root, err error) {
	defer r.dir.Close()
	defer func() {
		if err != nil && r.own != nil {
			r.own.Close()
		}
	}()
	sources, err := openSources(binds)
	defer func() {
		for _, f := range sources {
			f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	var fd int
	thread.Apart(func() { fd, err = r.assemble(binds, sources) })
	if err != nil {
		return nil, err
	}
	view := &Root{dir: os.NewFile(uintptr(fd), "view"), own: r.own, ids: r.ids}
	if lock {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			view.dir.Close()
			return nil, fmt.Errorf("mount_setattr: %w", err)
		}
	}
	return view, nil
}

// openSources clones the mounts of the sources.
func openSources(binds []Bind) (sources []*os.File, err error) {
	for _, b := range binds {
		var deep uint
		if !b.NonRecursive {
			deep = unix.AT_RECURSIVE
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|deep)
		if err != nil {
			return sources, &fs.PathError{Op: "open_tree", Path: b.Source, Err: err}
		}
		sources = append(sources, os.NewFile(uintptr(fd), b.Source))
		attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
		if !b.Writable {
			attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|deep, &attr); err != nil {
			return sources, fmt.Errorf("mount_setattr %s: %w", b.Source, err)
		}
	}
	return sources, nil
}

// assemble puts the view together in a mount namespace of the calling thread's own,
// since only in one can mounts be attached, and takes it out again as a whole.
func (r *Root) assemble(binds []Bind, sources []*os.File) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return -1, fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	const ends = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(r.FD(), "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("move_mount root: %w", err)
	}
	// Here and now, not some time after the thread has ended.
	defer unix.Unmount(place, unix.MNT_DETACH)
	for i, b := range binds {
		at, err := r.mountPoint(b.Destination, sources[i])
		if err != nil {
			return -1, fmt.Errorf("mount point %s: %w", b.Destination, err)
		}
		err = unix.MoveMount(int(sources[i].Fd()), "", int(at.Fd()), "", ends)
		at.Close()
		if err != nil {
			return -1, fmt.Errorf("move_mount %s to %s: %w", b.Source, b.Destination, err)
		}
	}
	fd, err := unix.OpenTree(r.FD(), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree of view: %w", err)
	}
	return fd, nil
}

// mountPoint opens the place of a bind, made if need be as what its source is.
func (r *Root) mountPoint(name string, source *os.File) (*os.File, error) {
	f, err := r.OpenInRoot(name, unix.O_PATH)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.MkdirAll(name, 0o755)
	}
	dir, err := r.MkdirAll(path.Dir(path.Clean("/"+name)), 0o755)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := unix.Mknodat(int(dir.Fd()), path.Base(name), unix.S_IFREG|0o644, 0); err != nil {
		return nil, &fs.PathError{Op: "mknodat", Path: name, Err: err}
	}
	if err := r.giveToRoot(dir, path.Base(name)); err != nil {
		return nil, err
	}
	return r.OpenInRoot(name, unix.O_PATH)
}

// giveToRoot gives what has been made in dir to the tree's root.
func (r *Root) giveToRoot(dir *os.File, name string) error {
	if r.ids.Empty() {
		return nil
	}
	uid, gid := r.ids.RootPair()
	if err := unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "fchownat", Path: name, Err: err}
	}
	return nil
}

// MkdirAll makes a directory of the tree and its missing parents, all of root's; links
// on the way are followed inside. The result is opened with O_PATH.
func (r *Root) MkdirAll(name string, mode uint32) (*os.File, error) {
	name = strings.Trim(path.Clean("/"+name), "/")
	f, err := r.OpenInRoot(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	dir, err := r.OpenInRoot(".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	var done []string
	for part := range strings.SplitSeq(name, "/") {
		done = append(slices.Clip(done), part)
		next, err := r.enter(dir, path.Join(done...), part, mode)
		dir.Close()
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

// enter opens full, which is part in dir, and makes it when it is missing.
func (r *Root) enter(dir *os.File, full, part string, mode uint32) (*os.File, error) {
	f, err := r.OpenInRoot(full, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	err = unix.Mkdirat(int(dir.Fd()), part, mode)
	if err == nil {
		err = r.giveToRoot(dir, part)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mkdirat", Path: full, Err: err}
	}
	return r.OpenInRoot(full, unix.O_PATH|unix.O_DIRECTORY)
}

// maxFollowed links are followed in one path; the kernel's own bound is 40.
const maxFollowed = 255

// Resolve follows all links of a path, the last one's too, inside the tree and tells the
// path without links that they lead to. What does not exist leads to itself.
func (r *Root) Resolve(name string) (string, error) {
	cur, rest := "/", name
	for links := 0; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next := path.Join(cur, part) // "", "." and "..": cur has no links
		if part == "" || part == "." || part == ".." {
			cur = next
			continue
		}
		target, err := r.readlink(next)
		if err != nil || target == "" {
			cur = next
			continue
		}
		if links++; links > maxFollowed || len(target)+len(rest) > 1<<20 {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			cur = "/"
		}
		rest = target + "/" + rest
	}
	return cur, nil
}

// readlink is "" for what is no link.
func (r *Root) readlink(name string) (string, error) {
	f, err := r.OpenInRoot(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
