package main

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/spf13/pflag"

	"gantry/api/version"
	runtimefeatures "gantry/runtime/features"
)

var featuresCommand = command{
	name: "features", about: "print what of the specification is supported as JSON",
	prepare: func(*pflag.FlagSet) func(context.Context, *request, []string) error {
		return func(_ context.Context, r *request, _ []string) error { return printJSON(r.stdout, runtimeFeatures()) }
	},
}

// runtimeFeatures are the runtime's, with the version of this build.
func runtimeFeatures() *features.Features {
	f := runtimefeatures.Supported()
	f.Annotations["gantry.grun.version"] = version.Version
	f.Annotations["gantry.grun.commit"] = version.Commit
	return f
}
