// Package exeattack tries to write a program that its caller has got hold of through
// /proc/<pid>/exe, as a hostile container would.
package exeattack

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
)

// Writable tries with all the privileges of the caller, in a mount namespace of its own
// as a container has one, and says by what ways the file could be opened for writing or
// changed. It writes nothing. Nobody must be executing the file, or else the kernel
// may refuse for that reason alone; fd may be of any kind, O_PATH included.
func Writable(fd int) (ways []string, err error) {
	thread.Apart(func() {
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		ways, err = try(fd)
	})
	return ways, err
}

// way is one attempt to be allowed to write. It returns the path that it made writable.
type way struct {
	name string
	open func(fd int, dir string) (string, error)
}

var ways = []way{
	{"as it is", func(fd int, _ string) (string, error) { return self(fd), nil }},
	{"mount_setattr", func(fd int, _ string) (string, error) { return self(fd), clear(fd, 0) }},
	{"mount_setattr, recursive", func(fd int, _ string) (string, error) { return self(fd), clear(fd, unix.AT_RECURSIVE) }},
	{"remount of the mount", func(fd int, _ string) (string, error) {
		return self(fd), unix.Mount("", self(fd), "", unix.MS_REMOUNT|unix.MS_BIND, "")
	}},
	{"clone", clone},
	{"bind", bind},
	{"move", func(fd int, dir string) (string, error) {
		at := dir + "/moved"
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			return "", err
		}
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return "", err
		}
		return at, unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND, "")
	}},
	{"reconfigured file system", reconfigure},
	{"handle", byHandle},
}

func try(fd int) (worked []string, err error) {
	dir, err := os.MkdirTemp("", "exeattack")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := unix.Mount("exeattack", dir, "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	for _, w := range ways {
		path, err := w.open(fd, dir)
		if err != nil {
			continue
		}
		if how := change(path); how != "" {
			worked = append(worked, w.name+": "+how)
		}
	}
	return worked, nil
}

// change says how the file at a path can be changed.
func change(path string) string {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
		return "opened for writing"
	}
	if errors.Is(err, unix.ETXTBSY) {
		return "kept from writing by its being executed alone"
	}
	if st, err := os.Stat(path); err == nil && os.Chmod(path, st.Mode().Perm()) == nil {
		return "mode changed"
	}
	return ""
}

func self(fd int) string { return fmt.Sprintf("/proc/thread-self/fd/%d", fd) }

func clear(fd int, flags uint) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
}

func clone(fd int, _ string) (string, error) {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return "", err
	}
	return self(tree), clear(tree, 0) // the descriptor goes with the process
}

func bind(fd int, dir string) (string, error) {
	at := dir + "/bound"
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		return "", err
	}
	if err := unix.Mount(self(fd), at, "", unix.MS_BIND, ""); err != nil {
		return "", err
	}
	return at, unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND, "")
}

// reconfigure makes a file system writable that is read-only for itself. It leaves alone
// one that may be the host's: that is writable, and stays as it is mounted.
func reconfigure(fd int, _ string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return "", errors.Join(err, errors.New("not an overlay"))
	}
	fs, err := unix.Fspick(fd, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return "", err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFlag(fs, "rw"); err != nil {
		return "", err
	}
	return self(fd), unix.FsconfigReconfigure(fs)
}

func byHandle(fd int, _ string) (string, error) {
	mount, err := unix.Open(self(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(mount)
	h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return "", err
	}
	again, err := unix.OpenByHandleAt(mount, h, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	return self(again), nil
}
