package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fork clones without a new stack, as fork(2).
//
//go:nosplit
//go:norace
//go:nocheckptr
func fork(m *machine, flags uintptr) (uintptr, syscall.Errno) {
	args := at[cloneArgs](m.scratch, 0)
	*args = cloneArgs{flags: uint64(flags), exitSignal: uint64(unix.SIGCHLD)}
	return rawcall(unix.SYS_CLONE3, m.scratch, unsafe.Sizeof(*args), 0)
}

// forkOn lets the copy go on and ends this child; the kernel leaves the copy's
// pid, as our pid namespace has it, in the shared page before the copy runs.
//
//go:nosplit
//go:norace
//go:nocheckptr
func forkOn(m *machine, s *shared, flags uintptr) (uintptr, syscall.Errno) {
	args := at[cloneArgs](m.scratch, 0)
	*args = cloneArgs{
		flags:     uint64(flags) | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID,
		parentTID: uint64(uintptr(unsafe.Pointer(&s.pid))),
	}
	r, e := rawcall(unix.SYS_CLONE3, m.scratch, unsafe.Sizeof(*args), 0)
	if e == errnoNone && r != 0 {
		exit(0)
	}
	return r, e
}
