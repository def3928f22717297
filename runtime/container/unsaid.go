package container

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gantry/runtime/security"
)

// unsaid finds the error of an execve that the init could not tell: its seccomp filter may
// refuse every call that sends something. The kernel knows whether a process has
// executed anything, and the init's exit status is that of a shell.
func (c *Container) unsaid() error {
	if security.SeccompLets(c.rec.Spec.Linux.Seccomp, "write") {
		return nil
	}
	fields := statFields(c.Pid())
	if len(fields) <= statExitCode || !forkedOnly(fields[statFlags]) {
		return nil // if ended and reaped, it has run as far as anybody can tell
	}
	code, _ := strconv.Atoi(fields[statExitCode])
	switch unix.WaitStatus(code).ExitStatus() {
	case 127:
		return lateError(c.rec.Spec.Process.Args[0], unix.ENOENT)
	case 126:
		return lateError(c.rec.Spec.Process.Args[0], unix.EACCES)
	}
	return nil // the filter has killed it
}
