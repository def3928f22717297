package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// early are the signals that a foreground takes from its begin. The Go runtime needs two
// switches of threads for each, which for all 65 is a sixth of what an exec takes; the
// others follow when it is known to last.
var early = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGCONT, unix.SIGTSTP, unix.SIGWINCH,
	unix.SIGCHLD, // for us: see reapUntil
	unix.SIGPIPE, // for us: a write tells
}

// lateAfter is how long a process has run when the other signals are taken, too. Until
// then they are dropped, or do to us what they do to others.
const lateAfter = 100 * time.Millisecond

// late are all the others, those of real time among them.
func late() (all []os.Signal) {
	const last = 64
	for s := syscall.Signal(1); s <= last; s++ {
		if forwarded(s) {
			all = append(all, s)
		}
	}
	return all
}

// forwarded leaves out what is ours: SIGCHLD, faults, SIGURG of Go's scheduler,
// and SIGPIPE, which says that nobody reads our output.
func forwarded(s syscall.Signal) bool {
	switch s {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE,
		unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGTRAP, unix.SIGSYS:
		return false
	}
	return true
}
