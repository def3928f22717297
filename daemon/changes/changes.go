// Package changes lists what a container has changed in the tree it was made with, as
// `docker diff` shows it: a file was added, deleted, or its mode, owner, device number,
// capability, size or time has changed. Of a directory size and time don't count, but it
// is listed as changed when something in it is. What is in a directory that was deleted,
// or replaced by something else, is not listed.
//
// The upper tree may be a running container's: it is walked by descriptors, no link is
// followed, nothing is opened but directories, and what vanishes meanwhile is not there.
package changes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	containertypes "github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// maxDepth bounds how deep a tree may be: each level holds two descriptors.
const maxDepth = 1000

// Source is the two trees to compare. The descriptors are the caller's.
type Source struct {
	Lower *os.File // the root of the tree before; O_PATH is enough
	Upper *os.File // the root of the tree after
	// Overlay says that Upper is not a whole tree but an overlay's upper directory above
	// Lower: what it does not have is unchanged, and its marks are those of overlayfs.
	Overlay bool
	// Opaque is the attribute that marks directories in Upper that hide those in Lower;
	// for an overlay only.
	Opaque string
}

// List compares the trees. Entries come directory by directory: the directory, what is
// new or changed in it in the order of the names, each with all below, then what was
// deleted from it. nil when nothing has changed.
func List(ctx context.Context, s Source) ([]containertypes.FilesystemChange, error) {
	l := &lister{ctx: ctx, Source: s}
	lower, err := reopen(s.Lower)
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	upper, err := reopen(s.Upper)
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	if err := l.directory("/", level{lower, upper, s.Overlay}, 0); err != nil {
		return nil, fmt.Errorf("list changes: %w", err)
	}
	return l.out, nil
}

func reopen(dir *os.File) (*os.File, error) {
	f, err := openAt(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	return f, nil
}

// lister is one List.
type lister struct {
	ctx context.Context
	Source
	out []containertypes.FilesystemChange
}

// level is a directory in both trees.
type level struct {
	lower  *os.File // nil when there was none
	upper  *os.File
	merged bool // what upper does not have is unchanged
}

func (l *lister) add(kind containertypes.ChangeType, path string) {
	l.out = append(l.out, containertypes.FilesystemChange{Kind: kind, Path: path})
}

// directory lists the changes in a directory; prefix is its path with a slash at the end.
func (l *lister) directory(prefix string, dir level, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%.200q: more than %d directories deep", prefix, maxDepth)
	}
	names, err := sorted(dir.upper)
	if err != nil {
		return fmt.Errorf("read directory %.200q: %w", prefix, err)
	}
	var deleted []string
	for _, name := range names {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		gone, err := l.entry(prefix, name, dir, depth)
		if err != nil {
			return err
		}
		if gone {
			deleted = append(deleted, name)
		}
	}
	if !dir.merged && dir.lower != nil {
		if deleted, err = missing(dir.lower, names, deleted); err != nil {
			return fmt.Errorf("read directory %.200q below: %w", prefix, err)
		}
	}
	for _, name := range deleted {
		l.add(containertypes.ChangeDelete, prefix+name)
	}
	return nil
}

// missing are the names of a directory that are not among names, and those of gone.
func missing(dir *os.File, names, gone []string) ([]string, error) {
	before, err := sorted(dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(before, func(name string) bool {
		_, there := slices.BinarySearch(names, name)
		_, deleted := slices.BinarySearch(gone, name)
		return there && !deleted
	}), nil
}

// sorted reads the names in a directory.
func sorted(dir *os.File) ([]string, error) {
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// entry lists what has become of one name; gone says that it has been deleted.
func (l *lister) entry(prefix, name string, dir level, depth int) (gone bool, err error) {
	after, is, err := stat(dir.upper, name)
	if err != nil {
		return false, fmt.Errorf("%.200q: %w", prefix+name, err)
	}
	before, was, err := stat(dir.lower, name)
	if err != nil {
		return false, fmt.Errorf("%.200q: %w", prefix+name, err)
	}
	if l.Overlay && isWhiteout(&after) {
		is = false
	} else if !is && dir.merged {
		was = false // it vanished right now; what is below it nobody has hidden
	}
	if !is {
		return was, nil
	}
	mark := len(l.out)
	switch {
	case !was:
		l.add(containertypes.ChangeAdd, prefix+name)
	case changed(dir, name, &before, &after):
		l.add(containertypes.ChangeModify, prefix+name)
	}
	if !isDir(&after) {
		return false, nil
	}
	told := len(l.out) > mark
	if err := l.below(prefix+name, name, dir, was && isDir(&before), depth); err != nil {
		return false, err
	}
	if !told && len(l.out) > mark {
		l.out = slices.Insert(l.out, mark, containertypes.FilesystemChange{Kind: containertypes.ChangeModify, Path: prefix + name})
	}
	return false, nil
}

// below lists the changes in a directory in dir; was says that it was one before.
func (l *lister) below(path, name string, dir level, was bool, depth int) error {
	upper, err := openAt(dir.upper, name)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", path, err)
	}
	defer upper.Close()
	next := level{upper: upper, merged: dir.merged && !l.opaque(upper)}
	if was {
		if next.lower, err = openAt(dir.lower, name); err != nil {
			return fmt.Errorf("%.200q below: %w", path, err)
		}
		defer next.lower.Close()
	}
	return l.directory(path+"/", next, depth+1)
}

func (l *lister) opaque(dir *os.File) bool {
	var value [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), l.Opaque, value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

func openAt(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// stat follows no link; ok is false when there is nothing, or no directory.
func stat(dir *os.File, name string) (st unix.Stat_t, ok bool, err error) {
	if dir == nil {
		return st, false, nil
	}
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if vanished(err) {
		return st, false, nil
	}
	return st, err == nil, os.NewSyscallError("fstatat", err)
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func changed(dir level, name string, a, b *unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	if isDir(b) {
		return false
	}
	if a.Size != b.Size || !sameTime(a.Mtim, b.Mtim) {
		return true
	}
	return b.Mode&unix.S_IFMT == unix.S_IFREG && capability(dir.lower, name) != capability(dir.upper, name)
}

// sameTime takes times for the same that differ in a fraction of a second which one of
// them does not have: layers keep whole seconds.
func sameTime(a, b unix.Timespec) bool {
	return a.Sec == b.Sec && (a.Nsec == b.Nsec || a.Nsec == 0 || b.Nsec == 0)
}

// capability is a file's security.capability, "" when it has none.
func capability(dir *os.File, name string) string {
	var buf [64]byte // more than any revision has
	path := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name
	n, err := unix.Lgetxattr(path, "security.capability", buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}
