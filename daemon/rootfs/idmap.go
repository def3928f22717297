package rootfs

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
	"gantry/daemon/userns"
)

// Where a mount's options map ids (userns.FromOptions), a Root shows those of the host, as
// the container's own processes have them there: of an overlay its lower layers are mapped,
// which have the ids of the inside on disk.

// IDs is the mapping that the mounts of the tree have; empty without one.
func (r *Root) IDs() userns.Mapping { return r.ids }

// setIDs lets a mount show its ids as the options say.
func setIDs(attr *unix.MountAttr, options []string) error {
	ids, _, err := userns.FromOptions(options)
	if err != nil || ids.Empty() {
		return err
	}
	ns, err := userns.Open(ids)
	if err != nil {
		return err
	}
	attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
	attr.Userns_fd = uint64(ns.Fd())
	return nil
}

// idsOf are the options that map the ids of a lower layer.
func (l layers) idsOf(dir string) []string {
	if slices.Contains(l.mapped, dir) {
		return l.ids
	}
	return nil
}

// mountMapped mounts an overlay with lower layers whose ids are mapped: in a mount
// namespace of a thread's own each of them is covered by itself, mapped, since overlayfs
// takes only what it can reach there.
func mountMapped(l layers) (fd int, err error) {
	thread.Apart(func() { fd, err = l.mountCovered() })
	return fd, err
}

func (l layers) mountCovered() (int, error) {
	if err := ownMounts(); err != nil {
		return -1, err
	}
	if err := l.cover(); err != nil {
		return -1, err
	}
	fd, err := fsmountOverlay(l)
	if errors.Is(err, errOldKernel) {
		return mountOnPlace(l)
	}
	return fd, err
}

func (l layers) cover() error {
	for _, dir := range l.mapped {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open_tree %s: %w", dir, err)
		}
		attr := unix.MountAttr{}
		err = setIDs(&attr, l.ids)
		if err == nil {
			err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
		}
		if err == nil {
			err = unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("map ids of %s: %w", dir, err)
		}
	}
	return nil
}
