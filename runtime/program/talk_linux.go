package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:nosplit
//go:norace
//go:nocheckptr
func tell(m *machine, code uintptr, wait bool) (uintptr, syscall.Errno) {
	fd := *at[uintptr](m.regs, uintptr(regSync))
	msg := [2]byte{'n', byte(code)}
	if wait {
		msg[0] = 'c'
	}
	_, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&msg)), 2, unix.MSG_NOSIGNAL, 0, 0)
	if e == syscall.EPIPE || e == syscall.ECONNRESET {
		exit(1)
	}
	if e != errnoNone || !wait {
		return 0, e
	}
	n, e := rawcall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&msg)), 1)
	if e == errnoNone && n == 0 || e == syscall.ECONNRESET {
		exit(1)
	}
	return 0, e
}

// tellFD builds its message in the scratch area.
//
//go:nosplit
//go:norace
//go:nocheckptr
func tellFD(m *machine, code, fd uintptr) (uintptr, syscall.Errno) {
	w := at[fdMessage](m.scratch, 0)
	w.text = [2]byte{'f', byte(code)}
	w.iov, w.iovLen = uintptr(unsafe.Pointer(&w.text)), 2
	w.control = fdControl{len: 20, level: unix.SOL_SOCKET, kind: unix.SCM_RIGHTS, fd: int32(fd)}
	w.hdr = msgHdr{iov: uintptr(unsafe.Pointer(&w.iov)), iovs: 1, control: uintptr(unsafe.Pointer(&w.control)), controlLen: 24}
	_, e := rawcall(unix.SYS_SENDMSG, *at[uintptr](m.regs, uintptr(regSync)), uintptr(unsafe.Pointer(&w.hdr)), unix.MSG_NOSIGNAL)
	return 0, e
}

type fdMessage struct {
	hdr         msgHdr
	iov, iovLen uintptr
	control     fdControl
	text        [2]byte
}

// awaitStart: see Program.AwaitStart.
//
//go:nosplit
//go:norace
//go:nocheckptr
func awaitStart(m *machine, listener, signals uintptr) (uintptr, syscall.Errno) {
	at[shared](m.shared, 0).state = stateWaits
	syscall.RawSyscall6(unix.SYS_CLOSE, *at[uintptr](m.regs, uintptr(regSync)), 0, 0, 0, 0, 0)
	fds := at[[2]unix.PollFd](m.scratch, 0)
	info := m.scratch + 64
	for {
		fds[0] = unix.PollFd{Fd: int32(signals), Events: unix.POLLIN}
		fds[1] = unix.PollFd{Fd: int32(listener), Events: unix.POLLIN}
		_, _, e := syscall.RawSyscall6(unix.SYS_PPOLL, m.scratch, 2, 0, 0, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != errnoNone {
			return 0, e
		}
		if fds[0].Revents != 0 {
			if n, e := rawcall(unix.SYS_READ, signals, info, 128); e == errnoNone && n == 128 {
				exit(128 + uintptr(*at[uint32](info, 0)))
			}
		}
		if fds[1].Revents == 0 {
			continue
		}
		r, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, listener, 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		if e == syscall.ECONNABORTED || e == syscall.EINTR {
			continue
		}
		if e == errnoNone {
			m.conn = r
		}
		return 0, e
	}
}

// say sends to the one who asked for the start. Under a filter it writes, which is the
// call that programs are least often denied, and sends when that is refused.
//
//go:nosplit
//go:norace
//go:nocheckptr
func say(m *machine, text, n uintptr) {
	if m.muted {
		if _, _, e := syscall.RawSyscall6(unix.SYS_WRITE, m.conn, text, n, 0, 0, 0); e == errnoNone {
			return
		}
	}
	syscall.RawSyscall6(unix.SYS_SENDTO, m.conn, text, n, unix.MSG_NOSIGNAL, 0, 0)
}
