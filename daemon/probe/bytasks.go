package probe

import (
	"context"
	"errors"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/spec"
	"gantry/libctr/core/task"
)

// byTasks runs probes as execs of the core's task, for shims that know no probers:
// slower, and without their output.
type byTasks struct {
	tasks     Tasks
	container string
	process   *specs.Process
}

// Close: there is nothing between two runs.
func (b *byTasks) Close() error { return nil }

// Run implements Prober.
func (b *byTasks) Run(ctx context.Context, o shimwire.Probe) (r shimwire.Probed, err error) {
	raw, err := spec.Any(b.process)
	if err != nil {
		return r, err
	}
	if err := b.tasks.Exec(ctx, task.ExecOptions{ContainerID: b.container, ExecID: o.ID, Spec: raw}); err != nil {
		return r, err
	}
	defer func() {
		undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
		defer cancel()
		if _, derr := b.tasks.Delete(undoing, b.container, o.ID); !errdefs.IsNotFound(derr) {
			err = errors.Join(err, derr)
		}
	}()
	if _, err := b.tasks.Start(ctx, b.container, o.ID); err != nil {
		return r, err
	}
	running, cancel := context.WithCancel(ctx) // a deadline would go with the call, and the core might end it before us
	defer cancel()
	defer time.AfterFunc(o.Timeout, cancel).Stop()
	exit, err := b.tasks.Wait(running, b.container, o.ID)
	if running.Err() != nil {
		r.TimedOut = true
		exit, err = b.kill(ctx, o.ID)
	}
	r.Status, r.At = int(exit.Code), exit.At
	return r, errors.Join(err, ctx.Err())
}

// kill ends a probe whose time is over, or whose caller has gone, and waits for it.
func (b *byTasks) kill(ctx context.Context, id string) (task.Exit, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if err := b.tasks.Kill(ctx, b.container, id, uint32(unix.SIGKILL), false); err != nil && !errdefs.IsNotFound(err) {
		return task.Exit{At: time.Now()}, err
	}
	return b.tasks.Wait(ctx, b.container, id)
}
