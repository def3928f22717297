package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/signal"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

var killCommand = command{
	name: "kill", args: "<container-id> [signal]", about: "send a signal, SIGTERM by default, to the init", min: 1, max: 2, strict: true,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		all := f.BoolP("all", "a", false, "send it to every process of the container")
		return func(ctx context.Context, r *request, args []string) error { return kill(ctx, r, args, *all) }
	},
}

// errNotRunning has runc's words, which its callers look for.
var errNotRunning = errors.New("container not running")

func kill(ctx context.Context, r *request, args []string, all bool) error {
	name := "SIGTERM"
	if len(args) > 1 {
		name = args[1]
	}
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return fmt.Errorf("unknown signal %q", name)
	}
	c, err := r.load(args[0])
	if err != nil {
		return err
	}
	err = c.Kill(ctx, unix.Signal(sig), all)
	if errdefs.IsNotFound(err) {
		if all {
			return nil // all of none
		}
		return errNotRunning
	}
	return err
}
