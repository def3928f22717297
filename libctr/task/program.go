package task

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// programs keeps a file of each shim's program that can't be written, since a
// container can reach the one that its shim runs from: a read-only mount of the
// program that is attached nowhere. Those who run from it share the text in memory.
// The zero value is ready; safe for concurrent use.
type programs struct {
	mu    sync.Mutex
	known map[string]program // guarded by mu; by path
}

type program struct {
	*os.File
	of file
}

// lowestFD is above what a child inherits: dup2 must not hit the program.
const lowestFD = 16

// open returns a descriptor of the program, which execve closes, and otherwise the
// caller. Where the kernel makes no such mount it is the file itself, and our shim
// executes itself anew from a protected one.
func (p *programs) open(path string) (int, error) {
	id, err := identify(path)
	if err != nil {
		return -1, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.known[path]
	if have.File == nil || have.of != id {
		f, err := readOnly(path)
		if err != nil {
			return -1, err
		}
		if have.File != nil { // replaced by another version
			have.Close()
		}
		have = program{f, id}
		if p.known == nil {
			p.known = map[string]program{}
		}
		p.known[path] = have
	}
	return unix.FcntlInt(have.Fd(), unix.F_DUPFD_CLOEXEC, lowestFD)
}

func (p *programs) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.known {
		f.Close()
	}
	clear(p.known)
}

func readOnly(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.Open(path)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return os.Open(path)
	}
	return os.NewFile(uintptr(fd), path), nil
}
