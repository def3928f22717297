package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's side of the fork protocol, open to this use by name.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags      uint64
	pidfd      uint64
	childTID   uint64
	parentTID  uint64
	exitSignal uint64
	stack      uint64
	stackSize  uint64
	tls        uint64
	setTID     uint64
	setTIDSize uint64
	cgroup     uint64
}

// forkStep says which call of forkAndRun failed.
type forkStep int

const (
	stepClone forkStep = iota
	stepEnter          // joining the pid namespace: no child was made
	stepBack           // returning to ours: the thread is spoiled; the child is there unless its pid is 0
)

// forkAndRun clones a child that runs m. With pidns ≥ 0 the child is born into
// that pid namespace; own is the caller's, to return to.
//
//go:norace
//go:nocheckptr
//go:noinline
func forkAndRun(m *machine, args *cloneArgs, pidns, own int) (pid uintptr, step forkStep, err syscall.Errno) {
	var backErr syscall.Errno
	beforeFork()
	if pidns >= 0 {
		if _, _, err = syscall.RawSyscall(unix.SYS_SETNS, uintptr(pidns), unix.CLONE_NEWPID, 0); err != 0 {
			afterFork()
			return 0, stepEnter, err
		}
	}
	pid, _, err = syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if err == 0 && pid == 0 {
		afterForkInChild()
		run(m)
	}
	if pidns >= 0 {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(own), unix.CLONE_NEWPID, 0); e != 0 {
			step, backErr = stepBack, e
		}
	}
	afterFork()
	if err != 0 {
		return 0, step, err
	}
	return pid, step, backErr
}
