package userns

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Supported says whether layers in dir can be mounted with the ids of m: overlayfs takes
// id-mapped layers since Linux 5.19, and not every file system can be mapped (ext4, xfs and
// btrfs can; tmpfs since 6.3). It is tried with a mount that nobody sees.
func Supported(m Mapping, dir string) error {
	ns, err := Open(m)
	if err != nil {
		return err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(fd)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("the file system of %s can't be mounted with other ids: %w", dir, err)
	}
	if old, release := beforeIDMapped(); old {
		return fmt.Errorf("overlayfs takes layers with other ids since Linux 5.19, this is %s", release)
	}
	return nil
}

// beforeIDMapped says whether the kernel is older than 5.19.
func beforeIDMapped() (bool, string) {
	raw, err := os.ReadFile("/proc/sys/kernel/osrelease")
	release := strings.TrimSpace(string(raw))
	var major, minor int
	if err != nil {
		return false, release
	}
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false, release
	}
	return major < 5 || major == 5 && minor < 19, release
}
