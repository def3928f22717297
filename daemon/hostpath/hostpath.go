// Package hostpath looks at paths of the host that users have named. They may lie on a
// file system whose server does not answer any more. Who touches such a one sleeps in
// the kernel, can't be killed, and keeps its whole process from ending, with the files
// and locks that it holds. So what the kernel can't tell from its caches is asked in a
// process of its own wherever such file systems are mounted, and given up after a while.
//
// A program that uses the package calls Main first of all in its main.
package hostpath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// Exists says whether path leads to something; symlinks are followed.
func Exists(ctx context.Context, path string) (bool, error) {
	fd, err := open(path)
	if err == nil {
		unix.Close(fd)
		return true, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		_, err = ask(ctx, opStat, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// MakeDir makes a directory, mode 0755, and its missing parents unless something is there.
// What it makes belongs to uid and gid.
func MakeDir(ctx context.Context, path string, uid, gid int) error {
	fd, err := open(path)
	if err == nil {
		unix.Close(fd)
		return nil
	}
	_, err = ask(ctx, fmt.Sprintf("%s:%d:%d", opMake, uid, gid), path)
	return err
}

// Real is path without symlinks.
func Real(ctx context.Context, path string) (string, error) {
	fd, err := open(path)
	if err != nil {
		return ask(ctx, opReal, path)
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// Answers makes sure that the file system of path answers; that nothing is there is an
// answer too.
func Answers(ctx context.Context, path string) error {
	fd, err := open(path)
	if err == nil {
		silent, statErr := maySilence(fd)
		unix.Close(fd)
		if statErr == nil && !silent {
			return nil
		}
	}
	_, err = ask(ctx, opStat, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// resolveCached is RESOLVE_CACHED of linux/openat2.h, since Linux 5.12.
const resolveCached = 0x20

// open opens what the kernel finds without asking any file system; EAGAIN when it can't.
func open(path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached}
	return unix.Openat2(unix.AT_FDCWD, path, &how)
}

// The questions, as they are put in the arguments of the process that asks them.
const (
	opStat = "stat"
	opMake = "mkdir" // with ":UID:GID"
	opReal = "readlink"
)

// look answers a question itself.
func look(op, path string) (string, error) {
	op, owner, _ := strings.Cut(op, ":")
	switch op {
	case opStat:
		_, err := os.Stat(path)
		return "", err
	case opMake:
		if _, err := os.Lstat(path); err == nil {
			return "", nil
		}
		var uid, gid int
		if _, err := fmt.Sscanf(owner, "%d:%d", &uid, &gid); err != nil {
			return "", err
		}
		if uid == 0 && gid == 0 {
			return "", os.MkdirAll(path, 0o755)
		}
		return "", user.MkdirAllAndChown(path, 0o755, uid, gid, user.WithOnlyNew)
	case opReal:
		return filepath.EvalSymlinks(path)
	}
	return "", unix.EINVAL
}
