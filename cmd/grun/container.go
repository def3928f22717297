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

// preservedFiles are the descriptors from 3 up that the process inherits: those
// of socket activation (LISTEN_FDS), then n more. env is what it is told of them.
func preservedFiles(n int) (files []*os.File, env []string, err error) {
	if n < 0 {
		return nil, nil, fmt.Errorf("--preserve-fds: %d is negative", n)
	}
	listen := os.Getenv("LISTEN_FDS")
	if listen != "" {
		k, err := strconv.Atoi(listen)
		if err != nil || k < 0 || k > 1<<16 {
			return nil, nil, fmt.Errorf("LISTEN_FDS: %q is no number of descriptors", listen)
		}
		n += k
		env = []string{"LISTEN_FDS=" + listen, "LISTEN_PID=1"}
		if names := os.Getenv("LISTEN_FDNAMES"); names != "" {
			env = append(env, "LISTEN_FDNAMES="+names)
		}
	}
	for fd := 3; fd < 3+n; fd++ {
		if !isOpen(fd) {
			return nil, nil, fmt.Errorf("preserve descriptor %d: it is not open", fd)
		}
	}
	for fd := 3; fd < 3+n; fd++ { // now that all are there: a file that is dropped gets closed
		files = append(files, os.NewFile(uintptr(fd), "preserved "+strconv.Itoa(fd)))
	}
	return files, env, nil
}
