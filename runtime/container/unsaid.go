package container

import (
	"os"
	"strconv"
	"strings"

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
	b, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid()) + "/stat")
	if err != nil {
		return nil // ended and reaped: it has run as far as anybody can tell
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const flags, exitCode = 6, 49 // counted from state
	if len(fields) <= exitCode || !forkedOnly(fields[flags]) {
		return nil
	}
	code, _ := strconv.Atoi(fields[exitCode])
	switch unix.WaitStatus(code).ExitStatus() {
	case 127:
		return lateError(c.rec.Spec.Process.Args[0], unix.ENOENT)
	case 126:
		return lateError(c.rec.Spec.Process.Args[0], unix.EACCES)
	}
	return nil // the filter has killed it
}

// forkedOnly reads a task's flags: PF_FORKNOEXEC goes with the first execve.
func forkedOnly(flags string) bool {
	const forkNoExec = 0x40
	n, err := strconv.ParseUint(flags, 10, 64)
	return err == nil && n&forkNoExec != 0
}
