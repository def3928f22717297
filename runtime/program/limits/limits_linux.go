// Package limits remembers the resource limits that the process was born with.
//
// Package os raises the soft limit of open files in its init. This package
// imports only what os needs too and its path sorts before "os", so that its own
// init runs first (Go specification, program initialization).
package limits

import "syscall"

var (
	nofile syscall.Rlimit
	known  = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &nofile) == nil
)

// Nofile is the limit of open files at the start of the process.
func Nofile() (syscall.Rlimit, bool) { return nofile, known }
