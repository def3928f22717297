package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
)

// checkpointCommand answers that there is none, also to --help, by which callers
// ask whether there is.
func checkpointCommand(name string) command {
	return command{
		name: name, args: "<container-id>", about: "not implemented", max: -1, strict: true,
		prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
			f.ParseErrorsAllowlist.UnknownFlags = true
			f.BoolP("help", "h", false, "")
			return func(context.Context, *request, []string) error { return fmt.Errorf("%s is not implemented", name) }
		},
	}
}
