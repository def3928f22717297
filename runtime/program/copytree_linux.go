package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CopyTree copies what is in the directory of from, but nothing from other mounts, into that
// of to, with owners, modes, times and extended attributes. Devices that can't be made and
// attributes that can't be set are left out; hard links become files of their own. What a
// tree may take is bounded by the filesystem of to.
func (p *Program) CopyTree(from, to Reg) *Op {
	return p.Call("copytree", opCopyTree, From(from), From(to))
}

const (
	maxTreeDepth = 64
	nameMax      = 8 << 10 // bytes of a directory's entries, of a link and of the names of attributes that are read at once
	valueMax     = 16 << 10
)

// treeScratch is copyTree's view of the scratch area. What it does lies side by side, with
// its variables here: there is little stack.
type treeScratch struct {
	how    unix.OpenHow
	stat   unix.Stat_t
	levels [maxTreeDepth]treeLevel
	depth  uintptr
	src    uintptr // the directories at hand
	dst    uintptr
	pos, n uintptr // what is left of dents
	name   uintptr // of the entry at hand, in dents
	in     uintptr // the file at hand
	out    uintptr
	dents  [nameMax]byte
	names  [nameMax]byte
	value  [valueMax]byte
}

// treeLevel is a directory that is being copied, and where to read on.
type treeLevel struct {
	src, dst uintptr
	next     uintptr
}

// what there is to do about an entry
const (
	stepNext = iota // nothing more
	stepEnd         // it was the last one
	stepFile        // in and out are open
	stepName        // made; owner and times are missing
)

// copyTree: see Program.CopyTree. Only descriptors are followed, never names from outside.
//
//go:nosplit
//go:norace
//go:nocheckptr
func copyTree(m *machine, from, to uintptr) (uintptr, syscall.Errno) {
	w := at[treeScratch](m.scratch, 0)
	w.depth = 0
	w.levels[0] = treeLevel{from, to, 0}
	e := enterLevel(w)
	for e == errnoNone {
		step := stepEnd
		if e = nextEntry(w); e == errnoNone && w.name != 0 {
			step, e = makeEntry(w)
		}
		switch {
		case e != errnoNone:
		case step == stepName:
			e = ownByName(w)
		case step == stepEnd && w.depth == 0:
			return 0, errnoNone
		case step == stepEnd:
			leaveLevel(w)
			e = copyFileAttributes(w)
		case step == stepFile:
			if e = copyData(w); e == errnoNone {
				e = copyFileAttributes(w)
			}
		}
	}
	return 0, e
}

//go:nosplit
//go:norace
//go:nocheckptr
func enterLevel(w *treeScratch) syscall.Errno {
	l := at[treeLevel](uintptr(unsafe.Pointer(&w.levels)), w.depth)
	w.src, w.dst, w.pos, w.n = l.src, l.dst, 0, 0
	_, e := rawcall(unix.SYS_LSEEK, l.src, l.next, unix.SEEK_SET)
	return e
}

// leaveLevel leaves the directory, which is complete, as the file at hand.
//
//go:nosplit
//go:norace
//go:nocheckptr
func leaveLevel(w *treeScratch) {
	w.in, w.out = w.src, w.dst
	w.depth--
	enterLevel(w)
}

// nextEntry finds the name of the next entry and what it is; no name is the end. What is
// gone meanwhile is not there to copy.
//
//go:nosplit
//go:norace
//go:nocheckptr
func nextEntry(w *treeScratch) (e syscall.Errno) {
	dents := uintptr(unsafe.Pointer(&w.dents))
	l := at[treeLevel](uintptr(unsafe.Pointer(&w.levels)), w.depth)
	for {
		if w.pos >= w.n {
			w.pos, w.name = 0, 0
			if w.n, e = rawcall(unix.SYS_GETDENTS64, l.src, dents, nameMax); e != errnoNone || w.n == 0 {
				return e
			}
		}
		w.name = dents + w.pos + 19
		l.next = *at[uintptr](dents+w.pos+8, 0)
		w.pos += uintptr(*at[uint16](dents+w.pos+16, 0))
		if isDots(w.name) {
			continue
		}
		_, _, e = syscall.RawSyscall6(unix.SYS_NEWFSTATAT, w.src, w.name, uintptr(unsafe.Pointer(&w.stat)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		if e != syscall.ENOENT {
			return e
		}
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
func isDots(name uintptr) bool {
	if *at[byte](name, 0) != '.' {
		return false
	}
	c := *at[byte](name, 1)
	return c == 0 || c == '.' && *at[byte](name, 2) == 0
}

// makeEntry makes the entry at hand anew.
//
//go:nosplit
//go:norace
//go:nocheckptr
func makeEntry(w *treeScratch) (step int, e syscall.Errno) {
	switch w.stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return makeDir(w)
	case unix.S_IFREG:
		return makeFile(w)
	case unix.S_IFLNK:
		return stepName, makeLink(w)
	}
	_, _, e = syscall.RawSyscall6(unix.SYS_MKNODAT, w.dst, w.name, uintptr(w.stat.Mode), uintptr(w.stat.Rdev), 0, 0)
	if e == syscall.EPERM {
		return stepNext, errnoNone
	}
	return stepName, e
}

// ownByName sets owner and times of what is not opened.
//
//go:nosplit
//go:norace
//go:nocheckptr
func ownByName(w *treeScratch) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_FCHOWNAT, w.dst, w.name, uintptr(w.stat.Uid), uintptr(w.stat.Gid), unix.AT_SYMLINK_NOFOLLOW, 0)
	if e != errnoNone && e != syscall.EINVAL && e != syscall.EPERM {
		return e
	}
	_, _, e = syscall.RawSyscall6(unix.SYS_UTIMENSAT, w.dst, w.name, uintptr(unsafe.Pointer(&w.stat.Atim)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	return e
}

//go:nosplit
//go:norace
//go:nocheckptr
func makeLink(w *treeScratch) syscall.Errno {
	names := uintptr(unsafe.Pointer(&w.names))
	n, _, e := syscall.RawSyscall6(unix.SYS_READLINKAT, w.src, w.name, names, nameMax-1, 0, 0)
	if e != errnoNone {
		return e
	}
	*at[byte](names, n) = 0
	_, e = rawcall(unix.SYS_SYMLINKAT, names, w.dst, w.name)
	return e
}

// openEntry opens the entry at hand for reading, unless it is a mount's root: EXDEV.
//
//go:nosplit
//go:norace
//go:nocheckptr
func openEntry(w *treeScratch, flags uint64) (r uintptr, e syscall.Errno) {
	w.how.Flags, w.how.Mode = flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0
	w.how.Resolve = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH
	for n := 0; n < maxRetries; n++ {
		r, _, e = syscall.RawSyscall6(unix.SYS_OPENAT2, w.src, w.name, uintptr(unsafe.Pointer(&w.how)), 24, 0, 0)
		if e != syscall.EAGAIN && e != syscall.EINTR {
			break
		}
	}
	return r, e
}

// makeDir makes a directory and goes into it. Its own attributes follow at its end.
//
//go:nosplit
//go:norace
//go:nocheckptr
func makeDir(w *treeScratch) (step int, e syscall.Errno) {
	if w.depth+1 == maxTreeDepth {
		return stepNext, syscall.ELOOP
	}
	if _, e = rawcall(unix.SYS_MKDIRAT, w.dst, w.name, 0o700); e != errnoNone {
		return stepNext, e
	}
	w.in, e = openEntry(w, unix.O_DIRECTORY)
	if e == syscall.EXDEV { // something is mounted there
		return stepName, errnoNone
	}
	if e != errnoNone {
		return stepNext, e
	}
	w.out, _, e = syscall.RawSyscall6(unix.SYS_OPENAT, w.dst, w.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0, 0, 0)
	if e != errnoNone {
		return stepNext, e
	}
	w.depth++
	*at[treeLevel](uintptr(unsafe.Pointer(&w.levels)), w.depth) = treeLevel{w.in, w.out, 0}
	return stepNext, enterLevel(w)
}

// makeFile makes an empty file and opens what is to go into it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func makeFile(w *treeScratch) (step int, e syscall.Errno) {
	w.out, _, e = syscall.RawSyscall6(unix.SYS_OPENAT, w.dst, w.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600, 0, 0)
	if e != errnoNone {
		return stepNext, e
	}
	w.in, e = openEntry(w, 0)
	if e == syscall.EXDEV {
		rawcall(unix.SYS_CLOSE, w.out, 0, 0)
		return stepNext, errnoNone
	}
	if e != errnoNone {
		return stepNext, e
	}
	if _, e = rawcall(unix.SYS_FSTAT, w.in, uintptr(unsafe.Pointer(&w.stat)), 0); e != errnoNone {
		return stepNext, e
	}
	if w.stat.Mode&unix.S_IFMT != unix.S_IFREG { // somebody has just put something else there
		return stepNext, syscall.ESTALE
	}
	return stepFile, errnoNone
}

// copyData leaves holes what they are.
//
//go:nosplit
//go:norace
//go:nocheckptr
func copyData(w *treeScratch) syscall.Errno {
	size := uintptr(w.stat.Size)
	for pos := uintptr(0); pos < size; {
		start, e := rawcall(unix.SYS_LSEEK, w.in, pos, unix.SEEK_DATA)
		if e == syscall.ENXIO {
			break
		}
		end := size
		if e == errnoNone {
			end, e = rawcall(unix.SYS_LSEEK, w.in, start, unix.SEEK_HOLE)
		} else if e == syscall.EINVAL { // it does not know of holes
			start, e = pos, errnoNone
		}
		if e != errnoNone {
			return e
		}
		rawcall(unix.SYS_LSEEK, w.in, start, unix.SEEK_SET)
		rawcall(unix.SYS_LSEEK, w.out, start, unix.SEEK_SET)
		for pos = start; pos < end; {
			n, _, e := syscall.RawSyscall6(unix.SYS_SENDFILE, w.out, w.in, 0, end-pos, 0, 0)
			if e != errnoNone && e != syscall.EINTR {
				return e
			}
			if e == errnoNone && n == 0 { // it has become shorter
				pos = size
				break
			}
			if e == errnoNone {
				pos += n
			}
		}
	}
	_, e := rawcall(unix.SYS_FTRUNCATE, w.out, size, 0)
	return e
}

// copyFileAttributes gives the file out what the file in has, in the order in which none
// undoes another, and closes both: a change of owner takes setuid bits and capabilities away.
//
//go:nosplit
//go:norace
//go:nocheckptr
func copyFileAttributes(w *treeScratch) syscall.Errno {
	_, e := rawcall(unix.SYS_FSTAT, w.in, uintptr(unsafe.Pointer(&w.stat)), 0)
	if e != errnoNone {
		return e
	}
	if _, e = rawcall(unix.SYS_FCHOWN, w.out, uintptr(w.stat.Uid), uintptr(w.stat.Gid)); e != errnoNone && e != syscall.EINVAL && e != syscall.EPERM {
		return e
	}
	if _, e = rawcall(unix.SYS_FCHMOD, w.out, uintptr(w.stat.Mode&0o7777), 0); e != errnoNone {
		return e
	}
	if e = copyXattrs(w); e != errnoNone {
		return e
	}
	_, _, e = syscall.RawSyscall6(unix.SYS_UTIMENSAT, w.out, 0, uintptr(unsafe.Pointer(&w.stat.Atim)), 0, 0, 0)
	rawcall(unix.SYS_CLOSE, w.in, 0, 0)
	rawcall(unix.SYS_CLOSE, w.out, 0, 0)
	return e
}

//go:nosplit
//go:norace
//go:nocheckptr
func copyXattrs(w *treeScratch) syscall.Errno {
	name, value := uintptr(unsafe.Pointer(&w.names)), uintptr(unsafe.Pointer(&w.value))
	n, e := rawcall(unix.SYS_FLISTXATTR, w.in, name, nameMax)
	if e == syscall.EOPNOTSUPP {
		return errnoNone
	}
	if e != errnoNone {
		return e
	}
	for end := name + n; name < end; name++ {
		n, _, e = syscall.RawSyscall6(unix.SYS_FGETXATTR, w.in, name, value, valueMax, 0, 0)
		if e == errnoNone {
			_, _, e = syscall.RawSyscall6(unix.SYS_FSETXATTR, w.out, name, value, n, 0, 0)
		}
		if e != errnoNone && e != syscall.EOPNOTSUPP && e != syscall.EPERM && e != syscall.EINVAL && e != syscall.ENODATA {
			return e
		}
		for *at[byte](name, 0) != 0 {
			name++
		}
	}
	return errnoNone
}
