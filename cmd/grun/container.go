package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"

	"gantry/runtime/container"
	"gantry/runtime/validate"
)

// errNoContainer has runc's words, which its callers look for.
var errNoContainer = errors.New("container does not exist")

// load finds a container of ours by its id.
func (r *request) load(id string) (*container.Container, error) {
	if err := validate.ID(id); err != nil {
		return nil, err
	}
	c, err := container.Load(r.global.root, id)
	if errdefs.IsNotFound(err) {
		return nil, errNoContainer
	}
	if err == nil {
		c.OnWarning(r.log.warn)
	}
	return c, err
}

// initError puts the words around an error of a new process that Docker's users
// know, if it is about the command.
func initError(err error) error {
	var cmd *container.CommandError
	if errors.As(err, &cmd) {
		return fmt.Errorf("unable to start container process: error during container init: %w", err)
	}
	return fmt.Errorf("unable to start container process: %w", err)
}

// listening are the descriptors of socket activation, from 3 up, if they are meant
// for us, and what the process is told of them.
func listening() (n int, env []string) {
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() {
		return 0, nil
	}
	fds := os.Getenv("LISTEN_FDS")
	if n, err = strconv.Atoi(fds); err != nil || n <= 0 || n > maxPreserved {
		return 0, nil
	}
	env = []string{"LISTEN_FDS=" + fds, "LISTEN_PID=1"}
	if names := os.Getenv("LISTEN_FDNAMES"); names != "" {
		env = append(env, "LISTEN_FDNAMES="+names)
	}
	return n, env
}

const maxPreserved = 1 << 16

// preserved are the descriptors from 3 up that the process inherits: those of
// socket activation, then more.
func preserved(listening, more int) (files []*os.File, err error) {
	if more < 0 || more > maxPreserved {
		return nil, fmt.Errorf("--preserve-fds: %d is not within 0 and %d", more, maxPreserved)
	}
	end := 3 + listening + more
	for fd := 3; fd < end; fd++ {
		if !isOpen(fd) {
			return nil, fmt.Errorf("preserve descriptor %d: it is not open", fd)
		}
	}
	for fd := 3; fd < end; fd++ { // now that all are there: a file that is dropped gets closed
		files = append(files, os.NewFile(uintptr(fd), "preserved "+strconv.Itoa(fd)))
	}
	return files, nil
}
