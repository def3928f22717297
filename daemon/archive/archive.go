// Package archive carries files into and out of a container as tar streams, the way
// dockerd 28.5 does: names, owners, modes, times in whole seconds, hard links, devices,
// and security.capability outwards, all SCHILY.xattr records inwards.
//
// The tree and the tar are hostile. Paths are resolved by the kernel inside the tree's
// root (see daemon/rootfs), what is read or made is reached from its directory's
// descriptor without following a link, and nothing is held in memory but one buffer,
// the names of one directory per level, and those of files with several links.
package archive

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"gantry/daemon/rootfs"
)

const (
	bufferSize = 1 << 20 // of data under way, in bytes
	maxDepth   = 1000    // directories, each of which holds a descriptor
	maxName    = 4096    // bytes of a name or link target, as the kernel has it
	paxXattr   = "SCHILY.xattr."
)

// Clean makes a user's path absolute and clean but for a "/" or "/." at its end, which
// say that a directory, or what is in it, is meant.
func Clean(name string) string {
	clean := path.Join("/", name)
	if path.Base(name) == "." && path.Base(clean) != "." {
		clean = strings.TrimSuffix(clean, "/") + "/."
	}
	if strings.HasSuffix(name, "/") && !strings.HasSuffix(clean, "/") {
		clean += "/"
	}
	return clean
}

// Stat describes what is at a path of Clean's; a link itself, unless the path ends in
// "/". fs.ErrNotExist when there is nothing.
func Stat(root *rootfs.Root, name string) (containertypes.PathStat, error) {
	info, err := lstat(root, name)
	if err != nil {
		return containertypes.PathStat{}, err
	}
	st := containertypes.PathStat{
		Name: path.Base(name), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime(),
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		st.LinkTarget, err = root.Resolve(name)
	}
	return st, err
}

func lstat(root *rootfs.Root, name string) (os.FileInfo, error) {
	f, err := root.OpenInRoot(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: cause(err)}
	}
	defer f.Close()
	return f.Stat()
}

// cause takes a path error's wrapping off, to be put on with the user's own path.
func cause(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return e.Err
	}
	return err
}

// openAt opens a child of dir, and nothing that it links to.
func openAt(dir *os.File, base string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("openat: %w", err)
	}
	return os.NewFile(uintptr(fd), base), nil
}

// openedPath leads to an open file, for calls that take no descriptor.
func openedPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// childPath names a child of an open directory, for calls that follow no last link.
func childPath(dir *os.File, base string) string { return openedPath(dir) + "/" + base }

func fstatat(dir *os.File, base string) (st unix.Stat_t, err error) {
	if err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, fmt.Errorf("fstatat: %w", err)
	}
	return st, nil
}

func kind(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }
