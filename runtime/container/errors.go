package container

import (
	"github.com/containerd/errdefs"
)

// CommandError says that the process to run can't be: the text is the part of
// runc's that Docker's users see, such as
//
//	exec: "nope": executable file not found in $PATH
//
// It is an errdefs.ErrNotFound or an errdefs.ErrPermissionDenied, by Kind.
type CommandError struct {
	Command string
	Kind    CommandErrorKind
	Late    bool  // after the start was asked for: the kernel's execve refused it
	Err     error // the errno, or a text of its own
	text    string
}

// CommandErrorKind says why a command can't be run.
type CommandErrorKind string

// The kinds of CommandError.
const (
	CommandNotFound      CommandErrorKind = "not-found"      // no such file; a shell's 127
	CommandNotExecutable CommandErrorKind = "not-executable" // there, but it can't be executed; a shell's 126
)

func (e *CommandError) Error() string { return e.text }

func (e *CommandError) Unwrap() []error {
	if e.Kind == CommandNotFound {
		return []error{errdefs.ErrNotFound, e.Err}
	}
	return []error{errdefs.ErrPermissionDenied, e.Err}
}
