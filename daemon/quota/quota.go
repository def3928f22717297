// Package quota bounds what directories may take, on file systems that keep project
// quotas: xfs mounted with pquota, ext4 with prjquota. Directories of one project, and
// all that is made in them afterwards, are counted together. ext4 holds no process to a
// limit that has CAP_SYS_RESOURCE on the host, as those of privileged containers have.
package quota

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the file system does not hold projects to their limits.
var ErrUnsupported = errors.New("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")

// Size reads HostConfig.StorageOpt, in bytes; 0 is no limit.
func Size(options map[string]string) (size int64, err error) {
	keys := make([]string, 0, len(options))
	for k := range options {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if strings.ToLower(k) != "size" {
			return 0, fmt.Errorf("unknown option %s", k)
		}
		if size, err = units.RAMInBytes(options[k]); err != nil {
			return 0, err
		}
		if size < 0 {
			return 0, fmt.Errorf("invalid size: '%s'", options[k])
		}
	}
	return size, nil
}

// Limit makes the directories a project of their own that may hold size bytes. They are
// empty and of one file system. Of 0 bytes it only says whether it could.
func Limit(size int64, dirs ...string) error {
	fs, err := open(dirs[0])
	if err != nil {
		return err
	}
	defer fs.close()
	if !fs.enforces() {
		return ErrUnsupported
	}
	if size == 0 {
		return nil
	}
	id, err := fs.freeProject()
	if err != nil {
		return err
	}
	// The limit last: by the directories it is found again, and of a project without a
	// limit nothing stays but them.
	for _, d := range dirs {
		if err := setProject(d, id); err != nil {
			return err
		}
	}
	return fs.setLimit(id, size)
}

// Release drops the limit of a directory's project; it is fine when it has none.
func Release(dir string) error {
	fs, err := open(dir)
	if err != nil {
		return err
	}
	defer fs.close()
	attr, err := attributes(fs.fd)
	if err != nil || attr.project == 0 || !fs.enforces() {
		return nil //nolint:nilerr // of a file system without attributes nothing was limited
	}
	return fs.setLimit(attr.project, 0)
}

// filesystem is asked through a directory on it.
type filesystem struct {
	fd   int
	path string
}

func open(path string) (filesystem, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return filesystem{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return filesystem{fd, path}, nil
}

func (f filesystem) close() { unix.Close(f.fd) }

// Of linux/dqblk_xfs.h and linux/quota.h; ext4 understands them too.
const (
	projects = 2 // the type of quota

	cmdGetLimit = 'X'<<8 + 3
	cmdSetLimit = 'X'<<8 + 4
	cmdGetState = 'X'<<8 + 5

	enforced = 1 << 5 // of projects, in the flags of the state

	limitVersion = 1
	limitProject = 2
	fieldSoft    = 1 << 2
	fieldHard    = 1 << 3
	block        = 512
)

// limit is fs_disk_quota.
type limit struct {
	version, kind  int8
	fields         uint16
	id             uint32
	hard, soft     uint64 // in blocks
	inodeHard      uint64
	inodeSoft      uint64
	blocks, inodes uint64 // in use
	_              [2]int32
	_              [2]uint16
	_              [3]int8
	_              int8
	_, _, _        uint64
	_              int32
	_              uint16
	_              int16
	_              [8]int8
}

// control is quotactl_fd(2), which needs no block device (Linux 5.14).
func (f filesystem) control(cmd int, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(f.fd), uintptr(cmd<<8|projects), uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (f filesystem) enforces() bool {
	var state [128]byte // fs_quota_stat is 80 bytes
	if f.control(cmdGetState, 0, unsafe.Pointer(&state)) != nil {
		return false
	}
	return binary.NativeEndian.Uint16(state[2:])&enforced != 0
}

// tries bounds the search for a project that nobody has.
const tries = 64

// freeProject picks a project that has no limit and holds nothing: the file system may
// not be this engine's alone.
func (f filesystem) freeProject() (uint32, error) {
	for range tries {
		id := 1<<20 + rand.Uint32N(1<<30)
		var q limit
		err := f.control(cmdGetLimit, id, unsafe.Pointer(&q))
		if errors.Is(err, unix.ENOENT) || err == nil && q.hard == 0 && q.soft == 0 && q.blocks == 0 && q.inodes == 0 {
			return id, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look for a free project on %s: %w", f.path, err)
		}
	}
	return 0, fmt.Errorf("look for a free project on %s: all are taken", f.path)
}

func (f filesystem) setLimit(id uint32, size int64) error {
	blocks := uint64(size+block-1) / block
	q := limit{version: limitVersion, kind: limitProject, fields: fieldSoft | fieldHard, id: id, hard: blocks, soft: blocks}
	if err := f.control(cmdSetLimit, id, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("set the limit of project %d on %s: %w", id, f.path, err)
	}
	return nil
}

// fileAttributes is fsxattr.
type fileAttributes struct {
	flags, extent, extents, project, cowExtent uint32
	_                                          [8]byte
}

const (
	getAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit       = 0x200      // FS_XFLAG_PROJINHERIT
)

func ioctl(fd int, request uintptr, attr *fileAttributes) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(attr)))
	if errno != 0 {
		return errno
	}
	return nil
}

func attributes(fd int) (attr fileAttributes, err error) {
	return attr, ioctl(fd, getAttributes, &attr)
}

func setProject(path string, id uint32) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	defer f.close()
	attr, err := attributes(f.fd)
	if err != nil {
		return fmt.Errorf("get attributes of %s: %w", path, err)
	}
	attr.project, attr.flags = id, attr.flags|inherit
	if err := ioctl(f.fd, setAttributes, &attr); err != nil {
		return fmt.Errorf("set project of %s: %w", path, err)
	}
	return nil
}
