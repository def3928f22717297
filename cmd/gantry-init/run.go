package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// run runs the command until it has ended and returns our exit status.
func run(o options) int {
	if o.subreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			say(2, "gantry-init: become subreaper: "+err.Error()+"\n")
		}
	}
	// ours before the command exists: a signal that comes early is kept for it
	signals := make(chan os.Signal, 256)
	signal.Notify(signals)
	pid, err := spawn(o.command)
	if err != nil {
		say(2, "gantry-init: "+o.command[0]+": "+err.Error()+"\n")
		return refused(err)
	}
	// only now, since what is ignored is inherited
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU)
	to := pid
	if o.group {
		to = -pid
	}
	for s := range signals {
		if s == unix.SIGCHLD {
			if status, ended := reap(pid); ended {
				return status
			}
		} else if forwarded(s.(syscall.Signal)) {
			unix.Kill(to, s.(syscall.Signal))
		}
	}
	return 0
}

func forwarded(s syscall.Signal) bool {
	switch s {
	case unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU,
		unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS:
		return false
	}
	return true
}

// reap collects all ended children and says whether the command was among them.
func reap(command int) (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || pid <= 0:
			return status, ended
		case pid == command && ws.Signaled():
			status, ended = 128+int(ws.Signal()), true
		case pid == command:
			status, ended = ws.ExitStatus(), true
		}
	}
}
