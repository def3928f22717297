package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
	"gantry/daemon/userns"
)

// OpenLive gives the root of a running container as a mount of our own, writable: the
// same overlay, without what is mounted in it. init is a pidfd of a process inside; the
// caller has made sure that it is the container's, and that ids are. ESRCH when it has ended.
func OpenLive(init *os.File, ids userns.Mapping) (*Root, error) {
	var clone, own int
	var err error
	thread.Apart(func() { clone, own, err = cloneLive(int(init.Fd())) })
	if err != nil {
		return nil, fmt.Errorf("open root of running container: %w", err)
	}
	r := &Root{dir: os.NewFile(uintptr(clone), "rootfs"), own: os.NewFile(uintptr(own), "live"), ids: ids}
	attr := unix.MountAttr{Attr_set: attrs, Attr_clr: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		r.Close()
		return nil, fmt.Errorf("mount_setattr of running container's root: %w", err)
	}
	return r, nil
}

// cloneLive joins the mount namespace of a process, which only there lets its mounts be
// cloned. own is the root as it is inside, with all that is mounted.
func cloneLive(pidfd int) (clone, own int, err error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(pidfd, unix.CLONE_NEWNS); err != nil {
		return -1, -1, fmt.Errorf("setns: %w", err)
	}
	own, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open /: %w", err)
	}
	clone, err = unix.OpenTree(own, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		unix.Close(own)
		return -1, -1, fmt.Errorf("open_tree: %w", err)
	}
	return clone, own, nil
}

// IsMountPoint says whether something is mounted on what name is in the open directory
// dir, whose path in the tree is at: in this view, or in the running container's own.
// The kernel keeps neither from being removed, since both are in other namespaces than
// ours: it would take the mount away with the file.
func (r *Root) IsMountPoint(dir *os.File, at, name string) (bool, error) {
	on, err := mountRoot(int(dir.Fd()), name)
	if on || err != nil || r.own == nil {
		return on, err
	}
	inside, err := openIn(r.own, at, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, nil //nolint:nilerr // nothing can be mounted where nothing is
	}
	defer inside.Close()
	return mountRoot(int(inside.Fd()), name)
}

func mountRoot(dir int, name string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("statx: %w", err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
