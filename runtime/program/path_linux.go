package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pathMax  = unix.PathMax
	restMax  = 4 * pathMax
	maxLinks = 40
	maxSteps = 4 * pathMax
)

// pathScratch is makePath's view of the scratch area.
type pathScratch struct {
	how  unix.OpenHow
	stat unix.Stat_t
	done [pathMax]byte // what is resolved so far, free of links, relative to the root, NUL-terminated
	rest [restMax]byte // what is still to walk
	link [pathMax]byte
	comp [256]byte // the component at hand, NUL-terminated

	root           uintptr
	nDone, restPos uintptr
	nRest          uintptr
	file           bool
}

// makePath: see Program.MakePath. a is root, path, like.
//
//go:nosplit
//go:norace
//go:nocheckptr
func makePath(m *machine, a *[6]uintptr) (uintptr, syscall.Errno) {
	w := at[pathScratch](m.scratch, 0)
	w.root = a[0]
	if fd, e := openAt(w, a[0], a[1], unix.O_PATH); e != syscall.ENOENT {
		return fd, e
	}
	w.file = a[2] == ^uintptr(1)
	if int(a[2]) >= 0 {
		if _, e := rawcall(unix.SYS_FSTAT, a[2], uintptr(unsafe.Pointer(&w.stat)), 0); e != errnoNone {
			return 0, e
		}
		w.file = w.stat.Mode&unix.S_IFMT != unix.S_IFDIR
	}
	w.nDone, w.restPos, w.nRest = 0, 0, 0
	if !setRest(w, a[1]) {
		return 0, syscall.ENAMETOOLONG
	}
	if e := walk(w); e != errnoNone {
		return 0, e
	}
	return openAt(w, a[0], donePath(w), unix.O_PATH)
}

// openAt opens path in root with openat2.
//
//go:nosplit
//go:norace
//go:nocheckptr
func openAt(w *pathScratch, root, path uintptr, flags uint64) (r uintptr, e syscall.Errno) {
	w.how.Flags, w.how.Mode, w.how.Resolve = flags|unix.O_CLOEXEC, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS
	for n := 0; n < maxRetries; n++ {
		r, _, e = syscall.RawSyscall6(unix.SYS_OPENAT2, root, path, uintptr(unsafe.Pointer(&w.how)), 24, 0, 0)
		if e != syscall.EAGAIN && e != syscall.EINTR {
			break
		}
	}
	return r, e
}

// donePath is the address of the resolved part; "." for the root itself.
//
//go:nosplit
//go:norace
//go:nocheckptr
func donePath(w *pathScratch) uintptr {
	if w.nDone == 0 {
		w.done[0], w.done[1] = '.', 0
	}
	return uintptr(unsafe.Pointer(&w.done))
}

// setRest puts the string at s in front of what is left to walk.
//
//go:nosplit
//go:norace
//go:nocheckptr
func setRest(w *pathScratch, s uintptr) bool {
	n := uintptr(0)
	for *at[byte](s, n) != 0 {
		n++
	}
	left := w.nRest - w.restPos
	if n+1+left > restMax {
		return false
	}
	rest := uintptr(unsafe.Pointer(&w.rest))
	if n+1 > w.restPos { // move up, from the end
		for k := left; k > 0; k-- {
			*at[byte](rest, n+k) = *at[byte](rest, w.restPos+k-1)
		}
		w.restPos, w.nRest = n+1, n+1+left
	}
	start := w.restPos - n - 1
	for k := uintptr(0); k < n; k++ {
		*at[byte](rest, start+k) = *at[byte](s, k)
	}
	*at[byte](rest, start+n) = '/'
	w.restPos = start
	return true
}

// nextComponent takes one component off the rest; its length is 0 at the end.
//
//go:nosplit
//go:norace
//go:nocheckptr
func nextComponent(w *pathScratch) (uintptr, syscall.Errno) {
	rest, comp := uintptr(unsafe.Pointer(&w.rest)), uintptr(unsafe.Pointer(&w.comp))
	for w.restPos < w.nRest && *at[byte](rest, w.restPos) == '/' {
		w.restPos++
	}
	n := uintptr(0)
	for w.restPos < w.nRest && *at[byte](rest, w.restPos) != '/' {
		if n == 255 {
			return 0, syscall.ENAMETOOLONG
		}
		*at[byte](comp, n) = *at[byte](rest, w.restPos)
		n++
		w.restPos++
	}
	*at[byte](comp, n) = 0
	for w.restPos < w.nRest && *at[byte](rest, w.restPos) == '/' {
		w.restPos++
	}
	return n, errnoNone
}

// walk resolves the rest one component at a time and makes what is missing.
//
//go:nosplit
//go:norace
//go:nocheckptr
func walk(w *pathScratch) syscall.Errno {
	links := 0
	for step := 0; step < maxSteps; step++ {
		n, e := nextComponent(w)
		if e != errnoNone || n == 0 {
			return e
		}
		if n <= 2 && w.comp[0] == '.' && (n == 1 || w.comp[1] == '.') {
			if n == 2 {
				popDone(w)
			}
			continue
		}
		parent := w.nDone
		if !pushDone(w, n) {
			return syscall.ENAMETOOLONG
		}
		isLink, e := look(w)
		if e == syscall.ENOENT {
			if e = makeMissing(w, parent); e != errnoNone {
				return e
			}
			continue
		}
		if e != errnoNone {
			return e
		}
		if !isLink {
			continue
		}
		if links++; links > maxLinks {
			return syscall.ELOOP
		}
		truncateDone(w, parent)
		if w.link[0] == '/' {
			w.nDone = 0
		}
		if !setRest(w, uintptr(unsafe.Pointer(&w.link))) {
			return syscall.ENAMETOOLONG
		}
	}
	return syscall.ELOOP
}

//go:nosplit
//go:norace
//go:nocheckptr
func pushDone(w *pathScratch, n uintptr) bool {
	done, comp := uintptr(unsafe.Pointer(&w.done)), uintptr(unsafe.Pointer(&w.comp))
	if w.nDone+1+n+1 > pathMax {
		return false
	}
	if w.nDone > 0 {
		*at[byte](done, w.nDone) = '/'
		w.nDone++
	}
	for k := uintptr(0); k <= n; k++ {
		*at[byte](done, w.nDone+k) = *at[byte](comp, k)
	}
	w.nDone += n
	return true
}

//go:nosplit
//go:norace
//go:nocheckptr
func truncateDone(w *pathScratch, n uintptr) {
	w.nDone = n
	*at[byte](uintptr(unsafe.Pointer(&w.done)), n) = 0
}

//go:nosplit
//go:norace
//go:nocheckptr
func popDone(w *pathScratch) {
	n := w.nDone
	for n > 0 && *at[byte](uintptr(unsafe.Pointer(&w.done)), n-1) != '/' {
		n--
	}
	if n > 0 {
		n--
	}
	truncateDone(w, n)
}

// look says whether what done names is a symbolic link, and reads it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func look(w *pathScratch) (bool, syscall.Errno) {
	fd, e := openAt(w, w.root, donePath(w), unix.O_PATH|unix.O_NOFOLLOW)
	if e != errnoNone {
		return false, e
	}
	link := uintptr(unsafe.Pointer(&w.link))
	empty := uintptr(unsafe.Pointer(&w.comp)) + 255
	*at[byte](empty, 0) = 0
	n, _, e := syscall.RawSyscall6(unix.SYS_READLINKAT, fd, empty, link, pathMax-1, 0, 0)
	syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
	if e != errnoNone {
		return false, errnoNone // not a link
	}
	*at[byte](link, n) = 0
	return true, errnoNone
}

// makeMissing makes the component at hand in the directory that the first
// parent bytes of done name.
//
//go:nosplit
//go:norace
//go:nocheckptr
func makeMissing(w *pathScratch, parent uintptr) syscall.Errno {
	done := uintptr(unsafe.Pointer(&w.done))
	path := done
	if parent == 0 {
		path = uintptr(unsafe.Pointer(&w.link))
		*at[uint16](path, 0) = '.'
	} else {
		*at[byte](done, parent) = 0
	}
	dir, e := openAt(w, w.root, path, unix.O_PATH|unix.O_DIRECTORY)
	if parent != 0 {
		*at[byte](done, parent) = '/'
	}
	if e != errnoNone {
		return e
	}
	comp := uintptr(unsafe.Pointer(&w.comp))
	if w.file && w.restPos == w.nRest {
		_, _, e = syscall.RawSyscall6(unix.SYS_MKNODAT, dir, comp, unix.S_IFREG|0o644, 0, 0, 0)
	} else {
		_, _, e = syscall.RawSyscall6(unix.SYS_MKDIRAT, dir, comp, 0o755, 0, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_CLOSE, dir, 0, 0, 0, 0, 0)
	if e == syscall.EEXIST {
		e = errnoNone
	}
	return e
}

// lookPath: see Program.LookPath.
//
//go:nosplit
//go:norace
//go:nocheckptr
func lookPath(m *machine, list, n uintptr) (uintptr, syscall.Errno) {
	e := syscall.ENOENT
	for k := uintptr(0); k < n; k++ {
		path := *at[uintptr](list, k)
		if e = executable(m, path); e == errnoNone {
			return path, e
		}
	}
	if n > 1 {
		e = syscall.ENOENT
	}
	return 0, e
}

const (
	atEAccess   = 0x200 // AT_EACCESS
	xOK         = 1
	currentRoot = cwd
)

//go:nosplit
//go:norace
//go:nocheckptr
func executable(m *machine, path uintptr) syscall.Errno {
	dir := uintptr(currentRoot)
	_, _, e := syscall.RawSyscall6(unix.SYS_STATX, dir, path, 0, unix.STATX_TYPE|unix.STATX_MODE, m.scratch, 0)
	if e != errnoNone {
		return e
	}
	if *at[uint16](m.scratch+StatxMode, 0)&unix.S_IFMT == unix.S_IFDIR {
		return syscall.EISDIR
	}
	_, _, e = syscall.RawSyscall6(unix.SYS_FACCESSAT2, dir, path, xOK, atEAccess, 0, 0)
	return e
}
