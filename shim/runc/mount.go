package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	runtime "gantry/runtime/container"
	runtimefs "gantry/runtime/rootfs"
	"gantry/shim/process"
)

// flags are the options of mount(8) that are bits; clear takes one away.
var flags = map[string]struct {
	bit   uintptr
	clear bool
}{
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"sync": {unix.MS_SYNCHRONOUS, false}, "async": {unix.MS_SYNCHRONOUS, true},
	"noatime": {unix.MS_NOATIME, false}, "relatime": {unix.MS_RELATIME, false},
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false},
	"defaults": {0, false},
}

// parseOptions splits options into flags and the file system's own data.
func parseOptions(options []string) (bits uintptr, data string) {
	var own []string
	for _, o := range options {
		f, ok := flags[o]
		switch {
		case !ok:
			own = append(own, o)
		case f.clear:
			bits &^= f.bit
		default:
			bits |= f.bit
		}
	}
	return bits, strings.Join(own, ",")
}

// mountAll mounts the root; on error nothing is left mounted.
func mountAll(rootfs string, mounts []process.Mount) (err error) {
	if len(mounts) == 0 {
		return nil
	}
	if err := os.MkdirAll(rootfs, 0o711); err != nil {
		return err
	}
	for i, m := range mounts {
		mount := mountOne
		if i == 0 && hasIDMap(m) {
			mount = mountMapped
		}
		if err := mount(rootfs, m); err != nil {
			if i > 0 {
				err = errors.Join(err, unmountAll(rootfs))
			}
			return err
		}
	}
	return nil
}

// hasIDMap says whether the ids of a mount are to be mapped, by options that mount(2) does
// not know.
func hasIDMap(m process.Mount) bool { return runtimefs.NeedsIDMap(runtimefs.Mount(m)) }

// mountMapped mounts a root whose ids are mapped.
func mountMapped(rootfs string, m process.Mount) error {
	ctx, cancel := context.WithTimeout(context.Background(), mountTime)
	defer cancel()
	tree, err := runtime.DetachedRoot(ctx, []runtime.Mount{runtime.Mount(m)}, rootfs)
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Source, rootfs, err)
	}
	defer tree.Close()
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, rootfs, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach %s on %s: %w", m.Source, rootfs, err)
	}
	return nil
}

const mountTime = 30 * time.Second

func mountOne(rootfs string, m process.Mount) error {
	target, release, err := inRoot(rootfs, m.Target)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Source, err)
	}
	defer release()
	bits, data := parseOptions(m.Options)
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("mount %s: options of %d bytes are too long", m.Type, len(data))
	}
	fstype := m.Type
	if fstype == "bind" || fstype == "rbind" {
		bits |= unix.MS_BIND
		if fstype == "rbind" {
			bits |= unix.MS_REC
		}
		fstype = ""
	}
	if err := unix.Mount(m.Source, target, fstype, bits, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Source, rootfs, err)
	}
	if bits&unix.MS_BIND != 0 && bits&^(unix.MS_BIND|unix.MS_REC) != 0 {
		if err := unix.Mount("", target, "", bits|unix.MS_REMOUNT, ""); err != nil {
			return errors.Join(fmt.Errorf("remount %s on %s: %w", m.Source, rootfs, err), unix.Unmount(target, unix.MNT_DETACH))
		}
	}
	return nil
}

// inRoot resolves a target below the root, without leaving it.
func inRoot(rootfs, target string) (path string, release func(), err error) {
	if target == "" || target == "/" {
		return rootfs, func() {}, nil
	}
	f, err := pathrs.OpenInRoot(rootfs, target)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { f.Close() }, nil
}

// unmountAll takes everything off the root, also what was mounted over it.
func unmountAll(rootfs string) error {
	for range 64 {
		switch err := unix.Unmount(rootfs, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", rootfs, err)
		}
	}
	return nil
}
