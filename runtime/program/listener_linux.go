package program

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// NotifyFilter loads a seccomp filter that asks a listener, and hands the listener's
// descriptor to the parent as TellFD does. how holds SECCOMP_FILTER_FLAG_NEW_LISTENER.
//
// The filter may ask about any call, also those that hand out a descriptor. So
// a helper does that: a copy of the child that shares its table of
// descriptors but not its filter. It learns the number from the shared page, to which
// the child writes without a call. The child waits for its helper's end, which is
// the one call after the filter; if the filter asks about that, the listener, which by
// then is on its way, answers.
func (p *Program) NotifyFilter(code byte, name string, raw []byte, n int, how uint) {
	helper := p.Fork(unix.CLONE_FILES, func() {
		lent := p.Reg("lent")
		p.CallTo(lent, "lent", opLent)
		p.TellFD(code, lent)
		p.Call("leave", opLeave)
	})
	fd := p.Reg("listener")
	p.CallTo(fd, "seccomp", unix.SYS_SECCOMP, Named(1, "SET_MODE_FILTER"), Num(how), filterArg(name, raw, n))
	p.Call("share", opShare, From(fd))
	p.Join(helper)
	p.Close(fd)
}

const (
	lendPause = 50_000 // nanoseconds
	lendTries = 200_000
)

// awaitLent waits until the number of a descriptor is in the shared page. It ends the helper
// when the child has failed, and after ten seconds at least.
//
//go:nosplit
//go:norace
//go:nocheckptr
func awaitLent(m *machine, s *shared) uintptr {
	for n := 0; n < lendTries && s.state != stateFailed; n++ {
		if s.lent != 0 {
			return uintptr(s.lent - 1)
		}
		*at[unix.Timespec](m.scratch, 0) = unix.Timespec{Nsec: lendPause}
		syscall.RawSyscall6(unix.SYS_NANOSLEEP, m.scratch, 0, 0, 0, 0, 0)
	}
	exit(1)
	return 0
}

// join waits for a child that must end well.
//
//go:nosplit
//go:norace
//go:nocheckptr
func join(m *machine, pid uintptr) (uintptr, syscall.Errno) {
	*at[uint32](m.scratch, 0) = 0
	for {
		_, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, pid, m.scratch, unix.WALL, 0, 0, 0)
		if e == errnoNone {
			break
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
	if *at[uint32](m.scratch, 0) != 0 {
		return 0, syscall.EPIPE
	}
	return 0, errnoNone
}
