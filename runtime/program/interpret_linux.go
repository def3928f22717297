package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pseudo calls: what needs a loop, a buffer or the state of the interpreter.
const opPseudo = 1 << 16 // above every number of a system call

const (
	opKeep = opPseudo + iota
	opCloseAllBut
	opTell
	opTellFD
	opMakePath
	opLookPath
	opStore
	opAwaitStart
	opSigDefaults
	opDropBounding
	opChownStdio
	opExecve
	opAddress
	opHome
	opIsSet
	opFork
	opForkOn
	opLent
	opShare
	opJoin
	opLeave
	opExit
	opSkip
	opLoad
	opCheck
	opCopyTree
)

// States of the shared page.
const (
	stateRunning = iota
	stateFailed
	stateExec   // execve is being tried, or done
	stateWaits  // for its start; the socket is closed
	stateExited // by Exit
)

// shared is the page between parent and child. Words are written by the child
// alone, and read by the parent once a message or EOF has come.
type shared struct {
	state  uint32
	op     uint32
	errno  uint32
	pid    uint32 // by ForkOn
	lent   uint32 // by NotifyFilter: a descriptor, counted from 1
	nnotes uint32
	notes  [maxNotes]note
}

const maxNotes = 256

type note struct{ op, errno uint32 }

// machine is the child's whole world, at the start of the arena.
type machine struct {
	ops     uintptr
	nops    uintptr
	regs    uintptr // int64s
	shared  uintptr
	scratch uintptr    // see makePath
	conn    uintptr    // the connection that asked for the start; 0 is none
	peer    uintptr    // the parent's end of the socket, closed first: else it would never end
	args    [6]uintptr // of the op at hand: here, for there is little stack
	pidfd   int32      // where clone3 leaves the child's pidfd, for the parent
	muted   bool       // a seccomp filter has been loaded
	clock   uintptr    // timespecs in the shared pages, of the begin and each op's end; 0: nobody asks
}

// instruction is an Op as the interpreter reads it.
type instruction struct {
	nr       uintptr
	args     [6]uintptr
	label    uintptr
	labelLen uintptr
	out      int32
	skipOK   uint16
	skipErr  uint16
	tolerate [6]uint16
	regs     uint8 // bit i: args[i] is a register's number
	note     uint8
}

const errnoNone = syscall.Errno(0)

// run interprets the program and never returns. It and all that it calls live
// on what is left of the goroutine's stack and touch only the arena, the shared
// page and the kernel.
//
//go:nosplit
//go:norace
//go:nocheckptr
func run(m *machine) {
	var i, r uintptr
	var e syscall.Errno
	var in *instruction
	syscall.RawSyscall6(unix.SYS_CLOSE, m.peer, 0, 0, 0, 0, 0)
	stamp(m, 0)
	for i < m.nops {
		in = at[instruction](m.ops, i)
		for k := uintptr(0); k < 6; k++ {
			v := *at[uintptr](uintptr(unsafe.Pointer(&in.args)), k)
			if in.regs&(1<<k) != 0 {
				v = *at[uintptr](m.regs, v)
			}
			*at[uintptr](uintptr(unsafe.Pointer(&m.args)), k) = v
		}
		switch {
		case in.nr < opPseudo:
			r, e = retry(in.nr, &m.args)
		case in.nr == opMakePath: // these two go deepest: not from pseudo
			r, e = makePath(m, &m.args)
		case in.nr == opCopyTree:
			r, e = copyTree(m, m.args[0], m.args[1])
		default:
			r, e = pseudo(m, in.nr)
		}
		if in.nr == unix.SYS_SECCOMP {
			m.clock = 0 // the filter may not let us ask for the time
			m.muted = true
		}
		i++
		stamp(m, i)
		if e == errnoNone {
			if in.out >= 0 {
				*at[uintptr](m.regs, uintptr(in.out)) = r
			}
			if in.nr != opFork || r != 0 {
				i += uintptr(in.skipOK)
			}
			continue
		}
		if !tolerated(in, e) {
			fail(m, in, i-1, e)
		}
		if in.note != 0 {
			addNote(m, i-1, e)
		}
		i += uintptr(in.skipErr)
	}
	fail(m, at[instruction](m.ops, 0), i, syscall.ENOSYS) // a program that ends without Execve or Exit
}

// stamp notes the time at place i, if someone asks for it.
//
//go:nosplit
//go:norace
//go:nocheckptr
func stamp(m *machine, i uintptr) {
	if m.clock != 0 {
		syscall.RawSyscall6(unix.SYS_CLOCK_GETTIME, unix.CLOCK_REALTIME, m.clock+i*unsafe.Sizeof(unix.Timespec{}), 0, 0, 0, 0)
	}
}

// at is element i of the array of T at base.
//
//go:nosplit
//go:norace
//go:nocheckptr
func at[T any](base uintptr, i uintptr) *T {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&base)) // memory of the arena or the stack: it never moves here
	return (*T)(unsafe.Add(p, i*unsafe.Sizeof(*new(T))))
}

const maxRetries = 128

//go:nosplit
//go:norace
//go:nocheckptr
func retry(nr uintptr, a *[6]uintptr) (r uintptr, e syscall.Errno) {
	for n := 0; n < maxRetries; n++ {
		r, _, e = syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if e != syscall.EINTR && (e != syscall.EAGAIN || nr != unix.SYS_OPENAT2) {
			return r, e
		}
	}
	return r, e
}

//go:nosplit
//go:norace
//go:nocheckptr
func tolerated(in *instruction, e syscall.Errno) bool {
	for k := uintptr(0); k < uintptr(len(in.tolerate)); k++ {
		if *at[uint16](uintptr(unsafe.Pointer(&in.tolerate)), k) == uint16(e) {
			return true
		}
	}
	return false
}

//go:nosplit
//go:norace
//go:nocheckptr
func addNote(m *machine, i uintptr, e syscall.Errno) {
	s := at[shared](m.shared, 0)
	if s.nnotes >= maxNotes {
		return
	}
	n := at[note](uintptr(unsafe.Pointer(&s.notes)), uintptr(s.nnotes))
	n.op, n.errno = uint32(i), uint32(e)
	s.nnotes++
}

// fail leaves the result where it is looked for, and exits: 127 when the file
// to run is not there, 126 when it can't be run, 1 otherwise.
//
//go:nosplit
//go:norace
//go:nocheckptr
func fail(m *machine, in *instruction, i uintptr, e syscall.Errno) {
	s := at[shared](m.shared, 0)
	s.op, s.errno = uint32(i), uint32(e)
	s.state = stateFailed
	if m.conn != 0 {
		n := uint32(e)
		say(m, uintptr(unsafe.Pointer(&n)), 4)
		say(m, in.label, in.labelLen)
	}
	status := uintptr(1)
	if in.nr == opExecve {
		status = 126
		if e == syscall.ENOENT {
			status = 127
		}
	}
	exit(status)
}

//go:nosplit
//go:norace
func exit(status uintptr) {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, status, 0, 0, 0, 0, 0)
	}
}

//go:nosplit
//go:norace
//go:nocheckptr
func pseudo(m *machine, nr uintptr) (uintptr, syscall.Errno) {
	a, s := &m.args, at[shared](m.shared, 0)
	switch nr {
	case opKeep:
		return keep(m, a[0], a[1], a[2])
	case opCloseAllBut:
		return 0, closeAllBut(m, a[0], a[1], a[2])
	case opTell:
		return tell(m, a[0], a[1] != 0)
	case opTellFD:
		return tellFD(m, a[0], a[1])
	case opLookPath:
		return lookPath(m, a[0], a[1])
	case opStore:
		*at[uintptr](a[0]+a[1], 0) = a[2]
	case opAwaitStart:
		return awaitStart(m, a[0], a[1])
	case opSigDefaults:
		return sigDefaults(m)
	case opDropBounding:
		return dropBounding(a[0])
	case opChownStdio:
		return chownStdio(m, a[0])
	case opExecve:
		s.state = stateExec
		return rawcall(unix.SYS_EXECVE, a[0], a[1], a[2])
	case opAddress:
		return a[0], errnoNone
	case opHome:
		return 0, homeOf(m, a[0], a[1], a[2])
	case opIsSet:
		if a[0] == 0 {
			return 0, syscall.ENODATA
		}
	case opLoad:
		return uintptr(*at[uint32](a[0]+a[1], 0)) & a[2], errnoNone
	case opCheck:
		if uintptr(*at[uint32](a[0]+a[1], 0))&a[2] != a[3] {
			return 0, syscall.Errno(a[4])
		}
	case opFork:
		return fork(m, a[0])
	case opForkOn:
		return forkOn(m, s, a[0])
	case opLent:
		return awaitLent(m, s), errnoNone
	case opShare:
		s.lent = uint32(a[0]) + 1
	case opJoin:
		return join(m, a[0])
	case opLeave:
		exit(0)
	case opExit:
		s.state = stateExited
		exit(0)
	}
	return 0, errnoNone
}

//go:nosplit
//go:norace
func rawcall(nr, a, b, c uintptr) (uintptr, syscall.Errno) {
	for {
		r, _, e := syscall.RawSyscall6(nr, a, b, c, 0, 0, 0)
		if e != syscall.EINTR {
			return r, e
		}
	}
}

// fdMessage has the kernel's structs with numbers for pointers: a pointer stored
// here would be a write barrier, which the child must not run.

// msgHdr is struct msghdr.
type msgHdr struct {
	name       uintptr
	nameLen    uint32
	_          uint32
	iov        uintptr
	iovs       uintptr
	control    uintptr
	controlLen uintptr
	flags      int32
	_          int32
}

// fdControl is struct cmsghdr and what follows it.
type fdControl struct {
	len         uintptr
	level, kind int32
	fd          int32
	_           int32
}

//go:nosplit
//go:norace
//go:nocheckptr
func sigDefaults(m *machine) (uintptr, syscall.Errno) {
	for k := uintptr(0); k < 8; k++ {
		*at[uintptr](m.scratch, k) = 0 // a struct sigaction: SIG_DFL
	}
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig == uintptr(unix.SIGKILL) || sig == uintptr(unix.SIGSTOP) {
			continue
		}
		if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, m.scratch, 0, 8, 0, 0); e != errnoNone {
			return 0, e
		}
	}
	return 0, errnoNone
}

// dropBounding ends at the first number that the kernel does not know.
//
//go:nosplit
//go:norace
func dropBounding(keep uintptr) (uintptr, syscall.Errno) {
	for c := uintptr(0); c < 64; c++ {
		if keep&(1<<c) != 0 {
			continue
		}
		has, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, c, 0, 0, 0, 0)
		if e != errnoNone {
			return 0, errnoNone
		}
		if has == 0 {
			continue
		}
		if _, _, e = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0); e != errnoNone {
			return 0, e
		}
	}
	return 0, errnoNone
}
