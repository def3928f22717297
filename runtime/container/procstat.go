package container

import (
	"os"
	"strconv"
	"strings"
)

// Places in what statFields gives; see proc_pid_stat(5).
const (
	statState     = 0
	statFlags     = 6
	statStartTime = 19
	statExitCode  = 49
)

// statFields are the fields of /proc/<pid>/stat from the state on, nil for a process that is
// gone: the command's name, which is before them, may contain anything.
func statFields(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// startTime reads when a process began, and whether it still runs: a zombie
// does not.
func startTime(pid int) (ticks uint64, alive bool) {
	fields := statFields(pid)
	if len(fields) <= statStartTime {
		return 0, false
	}
	ticks, err := strconv.ParseUint(fields[statStartTime], 10, 64)
	return ticks, err == nil && fields[statState] != "Z" && fields[statState] != "X"
}

// forkedOnly reads a task's flags: PF_FORKNOEXEC goes with the first execve.
func forkedOnly(flags string) bool {
	const forkNoExec = 0x40
	n, err := strconv.ParseUint(flags, 10, 64)
	return err == nil && n&forkNoExec != 0
}
