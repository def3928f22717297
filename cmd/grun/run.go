package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"gantry/runtime/container"
)

type runFlags struct {
	launchFlags
	detach, keep, noSubreaper bool
	started                   bool // by its making: it was restored
}

var runCommand = command{
	name: "run", args: "<container-id>", about: "create and run a container", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		var o runFlags
		o.declare(f)
		f.BoolVarP(&o.detach, "detach", "d", false, "don't wait for the container")
		f.BoolVar(&o.keep, "keep", false, "don't delete the container when it has ended")
		f.BoolVar(&o.noSubreaper, "no-subreaper", false, "leave orphans of the container to our parents")
		return func(ctx context.Context, r *request, args []string) error {
			if o.detach {
				return o.background(ctx, r, args[0])
			}
			return o.foreground(ctx, r, args[0])
		}
	},
}

func (o *runFlags) background(ctx context.Context, r *request, id string) error {
	c, err := o.create(ctx, r, id, true, r.inherited())
	if err != nil {
		return o.failed(err)
	}
	n, err := o.start(ctx, r, c)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.relay(c.Pid(), c.PidFD()); err != nil {
		r.log.warn(err.Error())
	}
	return nil
}

// failed names the command that has failed.
func (o *runFlags) failed(err error) error {
	if o.started {
		return fmt.Errorf("grun restore failed: %w", err)
	}
	return fmt.Errorf("grun run failed: %w", err)
}

// start starts a new container, and deletes it when it can't be.
func (o *runFlags) start(ctx context.Context, r *request, c *container.Container) (*notifier, error) {
	n, err := listenNotify(os.Getenv("NOTIFY_SOCKET"), container.NotifyDir(r.global.root, c.ID()))
	if err == nil && !o.started {
		err = c.Start(ctx)
	}
	if err != nil {
		n.close()
		c.Delete(context.WithoutCancel(ctx), true)
		return nil, o.failed(initError(err))
	}
	return n, nil
}

func (o *runFlags) foreground(ctx context.Context, r *request, id string) error {
	if !o.noSubreaper {
		if err := becomeSubreaper(); err != nil {
			return err
		}
	}
	f, err := newForeground(r)
	if err != nil {
		return err
	}
	defer f.close()
	c, err := o.create(ctx, r, id, false, f.theirs)
	if err != nil {
		return o.failed(err)
	}
	if err := f.attach(c.Console()); err != nil {
		c.Delete(context.WithoutCancel(ctx), true)
		return err
	}
	n, err := o.start(ctx, r, c)
	if err != nil {
		return err
	}
	defer n.relayBeside(os.Getpid(), c.PidFD())()
	status := f.wait(c.Pid(), c.PidFD())
	if !o.keep {
		if err := c.Delete(context.WithoutCancel(ctx), true); err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
	}
	return exited(status)
}

// exited turns an exit status to what execute returns.
func exited(status int) error {
	if status == 0 {
		return nil
	}
	return exitStatus(status)
}
