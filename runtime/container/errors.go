package container

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
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
	Late    bool // after the start was asked for: the kernel's execve refused it
	Err     unix.Errno
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

func kindOf(e unix.Errno) CommandErrorKind {
	if e == unix.ENOENT || e == unix.ENOTDIR {
		return CommandNotFound
	}
	return CommandNotExecutable
}

// commandError turns the failure of an op that concerns the command into a
// CommandError; other errors stay.
func commandError(err error, command string) error {
	var pe *program.Error
	if !errors.As(err, &pe) {
		return err
	}
	switch pe.Name {
	case "lookpath":
		return &CommandError{Command: command, Kind: kindOf(pe.Errno), Err: pe.Errno, text: lookText(command, pe.Errno)}
	case "execve":
		return lateError(command, pe.Errno)
	case "move_mount":
		return placeError(err, *pe)
	}
	return err
}

// placeError says what move_mount means when it finds a directory and a file: the one
// reason why a mount that could be made can't go to a place that could be opened.
func placeError(err error, pe program.Error) error {
	if pe.Errno != unix.EINVAL || !strings.HasPrefix(pe.Label, "bind ") && !strings.HasPrefix(pe.Label, "mount ") {
		return err
	}
	pe.Errno = unix.ENOTDIR
	return &pe
}

func lookText(command string, e unix.Errno) string {
	switch {
	case !strings.Contains(command, "/"):
		return fmt.Sprintf("exec: %q: executable file not found in $PATH", command)
	case e == unix.EACCES || e == unix.EISDIR:
		return fmt.Sprintf("exec: %q: %v", command, e)
	}
	return fmt.Sprintf("exec: %q: stat %s: %v", command, command, e)
}

func lateError(command string, e unix.Errno) error {
	return &CommandError{Command: command, Kind: kindOf(e), Late: true, Err: e, text: fmt.Sprintf("exec %s: %v", command, e)}
}
