package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// homeScratch is homeOf's view of the scratch area.
type homeScratch struct {
	how  unix.OpenHow
	stat unix.Stat_t
	path [16]byte
	buf  [8192]byte
	home [pathMax]byte

	field, uid, nHome uintptr
	bad               bool // the uid field is no number
}

const passwdMax = 1 << 20 // bytes of /etc/passwd that are read

// homeOf reads /etc/passwd one byte after the other: name:password:uid:gid:
// comment:home:shell. The first line with the uid counts. Nothing that is
// wrong with the file is an error.
//
//go:nosplit
//go:norace
//go:nocheckptr
func homeOf(m *machine, uid, dst, size uintptr) syscall.Errno {
	w := at[homeScratch](m.scratch, 0)
	fd, ok := openPasswd(w)
	if !ok {
		return errnoNone
	}
	startLine(w)
	found := false
	for total := uintptr(0); total < passwdMax && !found; {
		n, e := rawcall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&w.buf)), unsafe.Sizeof(w.buf))
		if e != errnoNone || n == 0 {
			found = lineMatches(w, uid) // a last line without newline
			break
		}
		total += n
		for k := uintptr(0); k < n && !found; k++ {
			c := *at[byte](uintptr(unsafe.Pointer(&w.buf)), k)
			if c == '\n' {
				if found = lineMatches(w, uid); !found {
					startLine(w)
				}
				continue
			}
			take(w, c)
		}
	}
	if found && w.nHome > 0 && w.nHome+6 <= size {
		for k := uintptr(0); k < w.nHome; k++ {
			*at[byte](dst, 5+k) = *at[byte](uintptr(unsafe.Pointer(&w.home)), k)
		}
		*at[byte](dst, 5+w.nHome) = 0
	}
	syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
	return errnoNone
}

//go:nosplit
//go:norace
//go:nocheckptr
func openPasswd(w *homeScratch) (uintptr, bool) {
	w.path = [16]byte{'/', 'e', 't', 'c', '/', 'p', 'a', 's', 's', 'w', 'd'}
	w.how.Flags, w.how.Mode, w.how.Resolve = unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS
	dir := uintptr(cwd)
	fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT2, dir, uintptr(unsafe.Pointer(&w.path)), uintptr(unsafe.Pointer(&w.how)), 24, 0, 0)
	if e != errnoNone {
		return 0, false
	}
	_, e = rawcall(unix.SYS_FSTAT, fd, uintptr(unsafe.Pointer(&w.stat)), 0)
	if e != errnoNone || w.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		syscall.RawSyscall6(unix.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		return 0, false
	}
	return fd, true
}

//go:nosplit
//go:norace
func startLine(w *homeScratch) { w.field, w.uid, w.nHome, w.bad = 0, 0, 0, true }

//go:nosplit
//go:norace
//go:nocheckptr
func take(w *homeScratch, c byte) {
	switch {
	case c == ':':
		w.field++
	case w.field == 2:
		digit := uintptr(c - '0')
		w.bad = c < '0' || c > '9' || w.uid > 1<<32
		w.uid = w.uid*10 + digit
		if w.bad {
			w.uid = 1 << 40 // stays too large to match
		}
	case w.field == 5 && w.nHome < pathMax:
		*at[byte](uintptr(unsafe.Pointer(&w.home)), w.nHome) = c
		w.nHome++
	}
}

//go:nosplit
//go:norace
func lineMatches(w *homeScratch, uid uintptr) bool {
	return w.field >= 5 && !w.bad && w.uid == uid && w.nHome < pathMax
}
