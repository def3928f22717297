package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"gantry/runtime/checkpoint"
	"gantry/runtime/container"
)

// restoreFlags are those of run, but for what was decided at the start that is now
// restored.
type restoreFlags struct {
	common criuFlags
	runFlags
	lsmProfile, lsmMountContext string
	rootMounts                  string
}

var restoreCommand = command{
	name: "restore", args: "<container-id>", about: "restore a container from a checkpoint", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		var o restoreFlags
		o.declare(f)
		return func(ctx context.Context, r *request, args []string) error { return o.run(ctx, r, args[0]) }
	},
}

func (o *restoreFlags) declare(f *pflag.FlagSet) {
	o.common.declare(f)
	f.StringVarP(&o.bundle, "bundle", "b", ".", "directory of config.json")
	f.StringVar(&o.consoleSocket, "console-socket", "", "unix socket that gets the terminal's master")
	f.StringVar(&o.pidFile, "pid-file", "", "file to write the process id to")
	f.BoolVarP(&o.detach, "detach", "d", false, "don't wait for the container")
	f.BoolVar(&o.noSubreaper, "no-subreaper", false, "leave orphans of the container to our parents")
	f.BoolVar(&o.noPivot, "no-pivot", false, "as at the container's start")
	f.StringVar(&o.lsmProfile, "lsm-profile", "", "TYPE:NAME of the security profile to run under")
	f.StringVar(&o.rootMounts, "root-mounts", "", "JSON file of the mounts that make the root, for who has not mounted it")
	f.MarkHidden("root-mounts")
	f.StringVar(&o.lsmMountContext, "lsm-mount-context", "", "security context of the mounts")
}

func (o *restoreFlags) run(ctx context.Context, r *request, id string) error {
	common, err := o.common.options(r)
	if err != nil {
		return err
	}
	options := checkpoint.RestoreOptions{Options: common, LSMProfile: o.lsmProfile, LSMMountContext: o.lsmMountContext}
	mounts, err := readMounts(o.rootMounts)
	if err != nil {
		return err
	}
	o.make = func(ctx context.Context, co container.CreateOptions) (*container.Container, error) {
		co.Rootfs = mounts
		return checkpoint.Restore(ctx, co, options)
	}
	o.started = true
	if o.detach {
		return o.background(ctx, r, id)
	}
	return o.foreground(ctx, r, id)
}

// readMounts reads a list of mounts; "" is none.
func readMounts(path string) (list []container.Mount, err error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("--root-mounts: %w", err)
	}
	return list, nil
}
