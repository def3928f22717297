package container

import (
	"errors"
	"strings"

	"gantry/api/errdefs"
)

func errNotFound(ref string) error { return errdefs.NotFound("No such container: %s", ref) }

// notRunning tells "is not running" from other conflicts.
type notRunning struct{ error }

func (e notRunning) Unwrap() error { return e.error }

func errNotRunning(id string) error {
	return notRunning{errdefs.Conflict("container %s is not running", id)}
}

func isNotRunning(err error) bool {
	var e notRunning
	return errors.As(err, &e)
}

func errRestarting(id string) error {
	return errdefs.Conflict("Container %s is restarting, wait until the container is running", id)
}

// Exit codes of containers that could not be started.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitUnknown       = 128
)

// errnoTexts makes the C library's words, which crun says, those that the docker CLI looks
// for when it chooses its exit code.
var errnoTexts = strings.NewReplacer(
	"No such file or directory", "no such file or directory",
	"Permission denied", "permission denied",
	"Is a directory", "is a directory",
	"Not a directory", "not a directory",
)

// startError gives what the core said about a task that could not be made or started
// Docker's exit code and class. The runtime's text reaches us through ttrpc and gRPC as
// it is; its class says why, and where it has none the words decide, as in dockerd.
func startError(prefix string, err error) (code int, out error) {
	text := prefix + errnoTexts.Replace(unclassed(err))
	switch lower := strings.ToLower(text); {
	case errors.Is(err, errdefs.ErrPermissionDenied), strings.Contains(lower, "permission denied"):
		code = exitNotExecutable
	case strings.Contains(lower, "is a directory"):
		text += ": permission denied" // what clients look for
		code = exitNotExecutable
	case strings.Contains(lower, "not a directory"):
		text += ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
		code = exitNotFound
	case strings.Contains(lower, "executable file not found"), strings.Contains(lower, "no such file or directory"):
		code = exitNotFound
	default:
		return exitUnknown, errors.New(text)
	}
	return code, errdefs.InvalidArgument("%s", text)
}

// unclassed is an error's text without that of its class, which containerd puts behind what
// a shim has said of a command that is not there.
func unclassed(err error) string {
	if !errdefs.IsNotFound(err) {
		return err.Error()
	}
	return strings.TrimSuffix(err.Error(), ": "+errdefs.ErrNotFound.Error())
}

// What Docker's users see before the runtime's own words; the core says the second.
const (
	taskPrefix    = "failed to create task for container: "
	shimPrefix    = "failed to create shim task: "
	runtimePrefix = "OCI runtime create failed: runc create failed: unable to start container process: error during container init: "
)

// withPrefix puts dockerd's words before what the core said about a task's creation.
// Words of the runtime about the command get those that runc's would have had.
func withPrefix(err error) error {
	text, ours := strings.CutPrefix(err.Error(), shimPrefix)
	switch {
	case strings.HasPrefix(text, "exec: "), strings.HasPrefix(text, "chdir to cwd "):
		return retold{taskPrefix + shimPrefix + runtimePrefix + text, err}
	case ours:
		return retold{taskPrefix + shimPrefix + text, err}
	}
	return retold{taskPrefix + text, err}
}

// retold is an error in other words.
type retold struct {
	text string
	err  error
}

func (r retold) Error() string { return r.text }
func (r retold) Unwrap() error { return r.err }

// ExecError gives what the core said about an exec that could not be started its exit
// code and class, as startError does for a container; without a reason the code is
// that of a command that can't be invoked.
func ExecError(err error) (code int, out error) {
	if class := errdefs.Class(err); class == errdefs.ErrInvalidArgument || class == errdefs.ErrConflict {
		return exitNotExecutable, err
	}
	prefix := ""
	if text := err.Error(); strings.HasPrefix(text, "exec: ") || strings.HasPrefix(text, "chdir to cwd ") {
		prefix = "OCI runtime exec failed: exec failed: unable to start container process: "
	}
	return startError(prefix, err)
}
