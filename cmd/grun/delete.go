package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
)

var deleteCommand = command{
	name: "delete", args: "<container-id>", about: "remove what is left of a container", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		force := f.BoolP("force", "f", false, "kill it first if it still runs; none of that id is no error")
		return func(ctx context.Context, r *request, args []string) error {
			c, err := r.load(args[0])
			if err == nil {
				err = c.Delete(ctx, *force)
			}
			if errdefs.IsNotFound(err) { // another was faster
				err = errNoContainer
			}
			if errors.Is(err, errNoContainer) && *force {
				fmt.Fprintln(r.stderr, err)
				return nil
			}
			return err
		}
	},
}
