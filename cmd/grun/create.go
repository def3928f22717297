package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
)

var createCommand = command{
	name: "create", args: "<container-id>", about: "create a container", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		var l launchFlags
		l.declare(f)
		return func(ctx context.Context, r *request, args []string) error {
			if _, err := l.create(ctx, r, args[0], true, r.inherited()); err != nil {
				return fmt.Errorf("grun create failed: %w", err)
			}
			return nil
		}
	},
}
