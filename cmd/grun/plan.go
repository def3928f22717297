package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"gantry/runtime/container"
)

var planCommand = command{
	name: "plan", about: "print the system calls that would start a bundle's container",
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		bundle := f.StringP("bundle", "b", ".", "directory of config.json")
		return func(_ context.Context, r *request, _ []string) error {
			p, err := container.Plan(container.CreateOptions{ID: "plan", Bundle: *bundle, Root: r.global.root, Warn: r.log.warn,
				SystemdCgroup: r.global.systemdCgroup})
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(r.stdout, p)
			return err
		}
	},
}
