package host

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// RemoveCgroup removes the cgroup at path from every hierarchy, where it is there
// and empty; one that holds processes or cgroups stays.
func RemoveCgroup(path string) error {
	if path = filepath.Join("/", path); path == "/" {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	var errs []error
	for _, m := range mounts {
		dir := filepath.Join(m.Mountpoint, path)
		switch err := unix.Rmdir(dir); err {
		case nil, unix.ENOENT, unix.EBUSY, unix.ENOTEMPTY, unix.EROFS:
		default:
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
