package main

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
)

var planCommand = command{
	name: "plan", about: "print the system calls that would start a bundle's container",
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		f.StringP("bundle", "b", ".", "directory of config.json")
		return func(context.Context, *request, []string) error { return errors.New("plan is not implemented") }
	},
}
