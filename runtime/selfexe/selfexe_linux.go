// Package selfexe keeps the program that runs containers out of their reach.
//
// Between clone and execve, and through a script whose interpreter is
// /proc/self/exe, a container can open the file of the program that cloned it.
// Ensure makes that file one that can't be written: a detached, read-only bind
// of the program, which no mount namespace has and so nobody can remount; or,
// where that can't be made, a sealed copy in memory.
package selfexe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const self = "/proc/self/exe"

// marker tells the second run that it is one; Protected does not trust it.
const marker = "_GANTRY_SELFEXE"

// Ensure returns at once when this process runs from a protected file.
// Otherwise it executes the program anew from one, with the same arguments and
// environment, and does not return. Call it first in main.
func Ensure() error {
	again := os.Getenv(marker) != ""
	os.Unsetenv(marker)
	if Protected() {
		name()
		return nil
	}
	if again {
		return fmt.Errorf("own executable is still unprotected after executing it anew")
	}
	f, err := Open()
	if err != nil {
		return err
	}
	return run(f)
}

// name gives the process its program's name back, for ps: the kernel took the last
// part of the path that was executed, a descriptor's number.
func name() {
	if len(os.Args) > 0 {
		os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) // a wrong name harms nobody
	}
}

// Open opens the program as a file that can't be written, for another process to
// execute; that one is Protected. The caller closes it.
func Open() (*os.File, error) {
	f, err := bind()
	if err != nil {
		if f, err = sealedCopy(); err != nil {
			return nil, fmt.Errorf("protect own executable: %w", err)
		}
	}
	return f, nil
}

// Protected says whether this process runs from a file that can't be written.
func Protected() bool {
	f, err := os.Open(self)
	if err != nil {
		return false
	}
	defer f.Close()
	return sealed(int(f.Fd())) || readonlyDetached(int(f.Fd()))
}

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

func sealed(fd int) bool {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && have&allSeals == allSeals
}

// readonlyDetached looks for a mount that is read-only and, as its path in
// /proc says, is itself the file: the root of a mount of its own.
func readonlyDetached(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
		return false
	}
	var own, root unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &own) != nil ||
		unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID, &root) != nil {
		return false
	}
	return own.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && !attached(own.Mnt_id)
}

// attached says whether the mount is in our mount namespace.
func attached(id uint64) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return true
	}
	defer f.Close()
	prefix := fmt.Appendf(nil, "%d ", id)
	r := bufio.NewReaderSize(f, 4<<10)
	for start := true; ; {
		line, err := r.ReadSlice('\n')
		if start && bytes.HasPrefix(line, prefix) {
			return true
		}
		start = err == nil
		if err != nil && err != bufio.ErrBufferFull {
			return err != io.EOF
		}
	}
}

func bind() (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, self, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("clone mount: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make mount read-only: %w", err)
	}
	return os.NewFile(uintptr(fd), self), nil
}

func sealedCopy() (*os.File, error) {
	src, err := os.Open(self)
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
	dst := os.NewFile(uintptr(fd), self)
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

func run(f *os.File) error {
	env := append(os.Environ(), marker+"=1")
	return fmt.Errorf("execute own executable anew: %w", unix.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.Args, env))
}
