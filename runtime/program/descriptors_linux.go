package program

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// keep moves what lies below base above it, then closes all others.
//
//go:nosplit
//go:norace
//go:nocheckptr
func keep(m *machine, base, list, n uintptr) (uintptr, syscall.Errno) {
	for k := uintptr(0); k <= n; k++ {
		reg := at[uintptr](m.regs, listed(list, k, n))
		if *reg >= base {
			continue
		}
		r, e := rawcall(unix.SYS_FCNTL, *reg, unix.F_DUPFD_CLOEXEC, base)
		if e != errnoNone {
			return 0, e
		}
		*reg = r
	}
	return 0, closeAllBut(m, 0, list, n)
}

// listed is the k-th register of a list of n, followed by the socket's.
//
//go:nosplit
//go:norace
//go:nocheckptr
func listed(list, k, n uintptr) uintptr {
	if k < n {
		return *at[uintptr](list, k)
	}
	return uintptr(regSync)
}

// closeAllBut closes the gaps between the listed descriptors: each round finds
// the lowest one from lo up.
//
//go:nosplit
//go:norace
//go:nocheckptr
func closeAllBut(m *machine, lo, list, n uintptr) syscall.Errno {
	const top = 1<<32 - 1
	for {
		next := uintptr(top) + 1
		for k := uintptr(0); k <= n; k++ {
			if fd := *at[uintptr](m.regs, listed(list, k, n)); fd >= lo && fd < next {
				next = fd
			}
		}
		if next > lo {
			if _, e := rawcall(unix.SYS_CLOSE_RANGE, lo, next-1, 0); e != errnoNone {
				return e
			}
		}
		if next > top {
			return errnoNone
		}
		lo = next + 1
	}
}

// chownStdio leaves alone what is already uid's, the null device, and what
// can't change hands.
//
//go:nosplit
//go:norace
//go:nocheckptr
func chownStdio(m *machine, uid uintptr) (uintptr, syscall.Errno) {
	st := at[unix.Stat_t](m.scratch, 0)
	for fd := uintptr(0); fd < 3; fd++ {
		if _, e := rawcall(unix.SYS_FSTAT, fd, m.scratch, 0); e == syscall.EBADF {
			continue
		} else if e != errnoNone {
			return 0, e
		}
		null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 1<<8|3
		if null || uintptr(st.Uid) == uid {
			continue
		}
		_, e := rawcall(unix.SYS_FCHOWN, fd, uid, ^uintptr(0))
		if e != errnoNone && e != syscall.EINVAL && e != syscall.EPERM && e != syscall.EROFS {
			return 0, e
		}
	}
	return 0, errnoNone
}
