package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/signal"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

var killCommand = command{
	name: "kill", args: "<container-id> [signal]", about: "send a signal, SIGTERM by default, to the init", min: 1, max: 2,
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
	c, err := r.load(args[0])
	if err != nil {
		return err
	}
	sig, err := parseSignal(name)
	if err != nil {
		return err
	}
	err = c.Kill(ctx, sig, all)
	if errdefs.IsNotFound(err) {
		if all {
			return nil // all of none
		}
		return errNotRunning
	}
	return err
}

// parseSignal reads a number, 0 too, by which only its existence is asked of a
// process, or a name with or without SIG.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return unix.Signal(n), nil
	}
	sig, err := signal.ParseSignal(s)
	if err != nil {
		return 0, fmt.Errorf("unknown signal %q", s)
	}
	return unix.Signal(sig), nil
}
