package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// Marks of directories that no entry of a layer has announced, in a tree that was filled
// without knowing what is below it. The root has one that says where to look.
const (
	implied      byte = 1 << iota // is to look like the one below
	impliedBelow                  // of the root: some directory is
)

// xattrImplied carries a mark.
const xattrImplied = "trusted.gantry.implied"

// alone says that the lower layers will be known later, see Rebase.
func (a *applier) alone() bool { return a.target.Overlay && len(a.target.Lower) == 0 }

func mark(f *os.File, m byte) error {
	err := unix.Setxattr(opened(f).path, xattrImplied, []byte{m}, 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return errdefs.FailedPrecondition("mark a directory for what is below it: %w", err)
	}
	return err
}

func marked(f *os.File) byte {
	value := make([]byte, 1)
	if n, err := unix.Getxattr(opened(f).path, xattrImplied, value); err != nil || n != 1 {
		return 0
	}
	return value[0]
}

func unmark(f *os.File) error {
	err := unix.Removexattr(opened(f).path, xattrImplied)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// Rebase ends what Apply has begun on an overlay's upper directory without lower ones,
// now that these are known: directories that the layer has only entries below of get the
// attributes and times of those that they hide, or stay 0755 of root. A tree that Apply
// has not filled in this way is left alone. It may be called again.
func Rebase(ctx context.Context, t Target) error {
	a, err := newApplier(t)
	if err != nil {
		return err
	}
	defer a.close()
	root, err := openIn(a.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer root.Close()
	m := marked(root)
	if m&impliedBelow != 0 {
		if err := a.rebaseBelow(ctx, root, "", 0); err != nil {
			return err
		}
	}
	if m&implied != 0 {
		return a.likeBelow(root)
	}
	// The root keeps its mark, which means nothing any more: a tree that need not be
	// changed need not be synced again.
	return nil
}

// likeBelow gives the root the owner and mode that it has had below, no more, as a snapshot
// that is made on its parent gets.
func (a *applier) likeBelow(root *os.File) error {
	var st, is unix.Stat_t
	if len(a.lower) == 0 {
		return nil
	}
	if err := errors.Join(unix.Fstat(int(a.lower[0].Fd()), &st), unix.Fstat(int(root.Fd()), &is)); err != nil {
		return err
	}
	if st.Uid == is.Uid && st.Gid == is.Gid && st.Mode == is.Mode {
		return nil
	}
	if err := unix.Fchown(int(root.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(int(root.Fd()), st.Mode&0o7777)
}

// rebaseBelow goes through the directories in dir.
func (a *applier) rebaseBelow(ctx context.Context, dir *os.File, name string, depth int) error {
	if depth > maxDepth {
		return errdefs.InvalidArgument("%.200q: more than %d directories deep", name, maxDepth)
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.rebaseDirectory(ctx, dir, e.Name(), path.Join(name, e.Name()), depth); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) rebaseDirectory(ctx context.Context, parent *os.File, base, name string, depth int) error {
	f, err := openAt(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := a.rebaseBelow(ctx, f, name, depth+1); err != nil {
		return err
	}
	if marked(f) == 0 {
		return nil
	}
	times, err := likeLower(f, a.lower, name)
	if err == nil && times != nil {
		err = futimens(f, times.access, times.mod)
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	return unmark(f)
}
