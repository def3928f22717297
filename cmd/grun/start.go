package main

import (
	"context"
	"errors"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"gantry/cmd/grun/first"
	"gantry/runtime/container"
)

var startCommand = command{
	name: "start", args: "<container-id>", about: "run the command of a created container", min: 1, max: 1,
	prepare: func(*pflag.FlagSet) func(context.Context, *request, []string) error { return start },
}

func start(ctx context.Context, r *request, args []string) error {
	c, err := r.load(args[0])
	if err != nil {
		return err
	}
	s, err := c.State()
	if err != nil {
		return err
	}
	switch s.Status {
	case specs.StateStopped:
		return errors.New("cannot start a container that has stopped")
	case specs.StateRunning:
		return errors.New("cannot start an already running container")
	case statePaused:
		return errors.New("cannot start a container in the paused state")
	}
	if c.ClonesAtStart() {
		if err := first.Protect(); err != nil {
			return err
		}
	}
	n, err := listenNotify(os.Getenv("NOTIFY_SOCKET"), container.NotifyDir(r.global.root, c.ID()))
	if err != nil {
		return err
	}
	defer n.close()
	if err := c.Start(ctx); err != nil {
		return err
	}
	return n.relay(c.Pid(), c.PidFD())
}
