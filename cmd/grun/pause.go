package main

import (
	"context"

	"github.com/spf13/pflag"

	"gantry/runtime/container"
)

var pauseCommand = simpleCommand("pause", "freeze all processes of a container", (*container.Container).Pause)

var resumeCommand = simpleCommand("resume", "thaw a paused container", (*container.Container).Resume)

// simpleCommand takes a container and no flags.
func simpleCommand(name, about string, do func(*container.Container, context.Context) error) command {
	return command{
		name: name, args: "<container-id>", about: about, min: 1, max: 1,
		prepare: func(*pflag.FlagSet) func(context.Context, *request, []string) error {
			return func(ctx context.Context, r *request, args []string) error {
				c, err := r.load(args[0])
				if err != nil {
					return err
				}
				return do(c, ctx)
			}
		},
	}
}
