package program_test

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoStatus is si_status: the sixth word of struct siginfo for SIGCHLD.
func siginfoStatus(i *unix.Siginfo) int32 {
	return *(*int32)(unsafe.Add(unsafe.Pointer(i), 24))
}
