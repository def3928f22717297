// Package mount mounts what a snapshotter hands out into this process's mount
// namespace, for the core's own needs: to apply and compare layers. Containers
// get their mounts from the runtime, in namespaces of their own.
package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"gantry/api/thread"
	"gantry/libctr/core/mount"
)

// pageSize bounds the data of mount(2); longer options need short paths.
const pageSize = 4096

// All mounts in order onto target, an existing directory. When one fails, those
// before it are unmounted again.
func All(mounts []mount.Mount, target string) error {
	for i, m := range mounts {
		if err := one(m, target); err != nil {
			if i > 0 {
				err = errors.Join(err, Unmount(target))
			}
			return err
		}
	}
	return nil
}

// Unmount takes everything mounted on target away, lazily where it is in use;
// nothing mounted there is no error.
func Unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EINTR), err == nil:
			continue
		default:
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
}

// WithTemp mounts onto a new temporary directory, calls fn with it and takes both
// away again; SweepTemp does when the process dies. A single writable or read-only bind is
// not mounted: fn gets its source.
func WithTemp(ctx context.Context, mounts []mount.Mount, fn func(root string) error) (err error) {
	if src, ok := Directory(mounts); ok {
		return fn(src)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, err := makeTemp()
	if err != nil {
		return fmt.Errorf("temporary mount: %w", err)
	}
	defer func() {
		// Remove, not RemoveAll: what is mounted must never be deleted.
		err = errors.Join(err, Unmount(dir), os.Remove(dir))
	}()
	if len(mounts) == 0 {
		// What has no mounts is an empty tree: let its root look like any other.
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	if err := All(mounts, dir); err != nil {
		return err
	}
	return fn(dir)
}

// Directory returns the source if the mounts are one bind of a directory.
func Directory(mounts []mount.Mount) (string, bool) {
	if len(mounts) != 1 || mounts[0].Target != "" {
		return "", false
	}
	m := mounts[0]
	if m.Type == "bind" || m.Type == "rbind" {
		return m.Source, true
	}
	return "", false
}

func one(m mount.Mount, target string) error {
	o := parse(m.Options)
	if m.Type == "bind" || m.Type == "rbind" {
		o.flags |= unix.MS_BIND
	}
	if m.Target != "" {
		f, err := pathrs.OpenInRoot(target, m.Target)
		if err != nil {
			return fmt.Errorf("mount %s below %s: %w", m.Source, target, err)
		}
		defer f.Close()
		target = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	if err := o.mount(m, target); err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", m.Source, m.Type, target, err)
	}
	return nil
}

// mount makes the mount, and the further calls that the kernel wants for a
// read-only bind and for propagation.
func (o options) mount(m mount.Mount, target string) error {
	const bind = unix.MS_BIND | unix.MS_REC
	first := o.flags
	if first&unix.MS_BIND != 0 {
		first &= bind
	}
	data := strings.Join(o.data, ",")
	var err error
	if m.Type == "overlay" && len(data) >= pageSize {
		err = o.mountShort(m, target, first)
	} else {
		err = unix.Mount(m.Source, target, m.Type, first, data)
	}
	if err != nil {
		return err
	}
	if o.flags&unix.MS_BIND != 0 && o.flags&^bind != 0 {
		if err := unix.Mount("", target, "", o.flags&^unix.MS_REC|unix.MS_REMOUNT, ""); err != nil {
			return errors.Join(fmt.Errorf("remount: %w", err), Unmount(target))
		}
	}
	if o.propagation != 0 {
		if err := unix.Mount("", target, "", o.propagation, ""); err != nil {
			return errors.Join(fmt.Errorf("set propagation: %w", err), Unmount(target))
		}
	}
	return nil
}

// mountShort mounts an overlay whose options are too long: with paths relative to
// the directory that all layers share, on a thread that has a working directory
// of its own and ends afterwards.
func (o options) mountShort(m mount.Mount, target string, flags uintptr) (err error) {
	base, data := shorten(o.data)
	if base == "" || len(data) >= pageSize {
		return fmt.Errorf("options of %d bytes: %w", len(data), unix.E2BIG)
	}
	thread.Apart(func() {
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			err = fmt.Errorf("unshare working directory: %w", err)
		} else if err = unix.Chdir(base); err != nil {
			err = fmt.Errorf("change to %s: %w", base, err)
		} else {
			err = unix.Mount(m.Source, target, m.Type, flags, data)
		}
	})
	return err
}

// shorten makes the paths of overlay options relative to base.
func shorten(data []string) (base, short string) {
	for _, o := range data {
		if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
			for _, dir := range strings.Split(v, ":") {
				base = common(base, dir)
			}
		}
	}
	if base == "" || base == "/" {
		return "", ""
	}
	out := make([]string, len(data))
	for i, o := range data {
		key, v, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			dirs := strings.Split(v, ":")
			for j, dir := range dirs {
				dirs[j], _ = filepath.Rel(base, dir) // base is above dir
			}
			out[i] = "lowerdir=" + strings.Join(dirs, ":")
		default:
			out[i] = o
		}
	}
	return base, strings.Join(out, ",")
}

// common is the deepest directory above both; a base of "" is none yet.
func common(base, dir string) string {
	dir = filepath.Dir(dir)
	if base == "" {
		return dir
	}
	for base != "/" && base != "." && dir != base && !strings.HasPrefix(dir, base+"/") {
		base = filepath.Dir(base)
	}
	return base
}
