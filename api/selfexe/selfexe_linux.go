// Package selfexe keeps the program that runs containers out of their reach.
//
// Between clone and execve, and through a script whose interpreter is
// /proc/self/exe, a container can open the file of the program that cloned it. So
// that program is executed from a file that can't be written, one of two:
//
//   - A read-only bind mount of the program that is in no mount namespace. Being
//     detached is not enough: the mount that open_tree makes is in an anonymous
//     namespace as long as its descriptor is open, and there mount_setattr clears
//     the flag for anybody with CAP_SYS_ADMIN in any user namespace. When that
//     descriptor is closed the mount is in none and stays as it is for good: it can
//     be neither changed nor cloned nor attached. All who run from such mounts of a
//     file share its pages with each other and with those who run the file itself,
//     and while they do nobody can write the file (ETXTBSY).
//   - Where that mount can't be made, a sealed copy in memory. All who run from one
//     copy share it.
//
// An overlay without an upper layer, whose superblock too is read-only for good,
// protects as well, but not from the host: the kernel lets a file be written that
// is executed through an overlay, and a new version that is copied over the old one
// would change the text of what runs, which with us runs for months.
package selfexe

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self is the path of the calling process's program, for Open.
const Self = "/proc/self/exe"

// marker tells the second run that it is one, and which variables it has got beside the
// user's; Protected does not trust it.
const marker = "_GANTRY_SELFEXE"

// Ensure returns at once when this process runs from a protected file.
// Otherwise it executes the program anew from one, with the same arguments and
// environment, and does not return. Call it first in main, or before: in an init.
//
// The settings are of the form "GOGC=off", for the Go runtime of the second run; who
// has set such a variable himself keeps it. Ensure takes them away there.
func Ensure(settings ...string) error {
	got, again := os.LookupEnv(marker)
	os.Unsetenv(marker)
	for name := range strings.SplitSeq(got, ",") {
		os.Unsetenv(name)
	}
	if Protected() {
		name()
		return nil
	}
	if again {
		return fmt.Errorf("own executable is still unprotected after executing it anew")
	}
	f, err := Open(Self)
	if err != nil {
		return err
	}
	return run(f, settings)
}

// name gives the process its program's name back, for ps: the kernel took the last
// part of the path that was executed, a descriptor's number.
func name() {
	if len(os.Args) > 0 {
		os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) // a wrong name harms nobody
	}
}

// Open opens a program as a file that can't be written, to be executed by the path of
// the descriptor, any number of times; such a process is Protected. The caller closes
// it. It may be an O_PATH descriptor.
func Open(path string) (*os.File, error) {
	f, err := bind(path)
	if err == nil {
		return f, nil
	}
	f, copyErr := sealedCopy(path)
	if copyErr != nil {
		return nil, fmt.Errorf("protect %s: %w, %w", path, err, copyErr)
	}
	return f, nil
}

// Protected says whether this process runs from a file that can't be written.
func Protected() bool {
	f, err := os.Open(Self)
	if err != nil {
		return false
	}
	defer f.Close()
	return sealed(int(f.Fd())) || readOnlyForGood(int(f.Fd()))
}

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

func sealed(fd int) bool {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && have&allSeals == allSeals
}

// readOnlyForGood says whether the file is the root of a read-only mount that the kernel
// refuses to change. It asks by way of a change that changes nothing, which the kernel
// refuses a privileged caller for one reason: the mount is neither in the caller's mount
// namespace nor in an anonymous one. That leaves a mount in somebody else's namespace,
// which is not told apart; bind's flags, taken together, are rare on a mount of one file.
func readOnlyForGood(fd int) bool {
	const flags = unix.ST_RDONLY | unix.ST_NOSUID
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Flags&flags != flags {
		return false
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st); err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false
	}
	same := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &same) == unix.EINVAL
}

func bind(path string) (*os.File, error) {
	// A child forked meanwhile would hold the mount's descriptor until it executes.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	mount, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("clone mount: %w", err)
	}
	defer unix.Close(mount) // takes the mount out of its namespace
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, fmt.Errorf("make mount read-only: %w", err)
	}
	// A duplicate of the descriptor would keep the mount in its namespace.
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", mount), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open in read-only mount: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func sealedCopy(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("gantry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // MFD_EXEC is of Linux 6.3
		fd, err = unix.MemfdCreate("gantry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	dst := os.NewFile(uintptr(fd), path)
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return nil, fmt.Errorf("copy: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, allSeals); err != nil {
		dst.Close()
		return nil, fmt.Errorf("seal: %w", err)
	}
	return dst, nil
}

func run(f *os.File, settings []string) error {
	env, names := os.Environ(), []string{}
	for _, s := range settings {
		name, _, _ := strings.Cut(s, "=")
		if _, set := os.LookupEnv(name); !set {
			env, names = append(env, s), append(names, name)
		}
	}
	env = append(env, marker+"="+strings.Join(names, ","))
	return fmt.Errorf("execute own executable anew: %w", unix.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.Args, env))
}
