package mount

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
	"gantry/libctr/core/mount"
)

// WithDetached is WithTemp where nobody else sees the mount of an overlay, and a process
// that is killed leaves nothing behind: it is made in a mount namespace of its own, and fn
// gets the path of a descriptor of its root.
func WithDetached(ctx context.Context, mounts []mount.Mount, fn func(root string) error) error {
	if len(mounts) != 1 || mounts[0].Type != "overlay" || mounts[0].Target != "" {
		return WithTemp(ctx, mounts, fn)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := detached(mounts[0])
	if err != nil {
		return fmt.Errorf("detached mount of overlay: %w", err)
	}
	defer root.Close()
	return fn("/proc/self/fd/" + strconv.Itoa(int(root.Fd())))
}

// detached works on a thread that ends with it, and takes its namespace along.
func detached(m mount.Mount) (*os.File, error) {
	var fd int
	var err error
	thread.Apart(func() { fd, err = mountAside(m) })
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "root"), nil
}

// place is a directory that is surely there; what is mounted on it is seen by nobody.
const place = "/sys"

func mountAside(m mount.Mount) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return -1, fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	o := parse(m.Options)
	data := strings.Join(o.data, ",")
	if len(data) >= pageSize {
		var base string
		if base, data = shorten(o.data); base == "" || len(data) >= pageSize {
			return -1, fmt.Errorf("options of %d bytes: %w", len(data), unix.E2BIG)
		}
		if err := unix.Chdir(base); err != nil {
			return -1, fmt.Errorf("change to %s: %w", base, err)
		}
	}
	if err := unix.Mount(m.Source, place, m.Type, o.flags, data); err != nil {
		return -1, err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return fd, nil
}
