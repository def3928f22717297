package main

import (
	"context"
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
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
	}
	return c.Start(ctx)
}
