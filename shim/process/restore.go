package process

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/runtime/cgroup"
	"gantry/shim/reaper"
)

// A task that is made from a checkpoint has nothing but its streams until it is
// started: restored processes run at once, so there is no init that could wait.
// containerd's own shim has it so, too.

// restoreTimeout bounds a restore, which holds the init's lane: it reads all memory
// from disk.
const restoreTimeout = 10 * time.Minute

// dormant is the container of such a task before its start: it has no processes.
type dormant struct {
	rt     Runtime
	o      CreateOptions
	images string

	mu        sync.Mutex
	calledOff bool               // guarded by mu
	cancel    context.CancelFunc // of the restore under way; guarded by mu
}

var (
	_ Container = (*dormant)(nil)

	errDormant = errdefs.FailedPrecondition("the container has not been restored from its checkpoint yet")
)

// begin is the context of a restore, which callOff ends. ok is false when that has
// been called.
func (d *dormant) begin(ctx context.Context) (_ context.Context, end context.CancelFunc, ok bool) {
	ctx, end = context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel = end
	return ctx, end, !d.calledOff
}

func (d *dormant) callOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calledOff = true
	if d.cancel != nil {
		d.cancel()
	}
}

// restore makes the container, whose processes run when it returns. It is called in the
// lane of the init. When it fails the init has ended without having run.
func (t *Task) restore(ctx context.Context, d *dormant) (int, error) {
	exit, err := t.bringBack(ctx, d)
	if err != nil {
		t.init.fail(255)
		t.init.io.Close(ctx)
		return 0, err
	}
	failpoint.Hit("shim/process.restore.watched")
	t.oom = watchOOM(t.made(), t.tell.OutOfMemory, t.log)
	err = t.started(t.init)
	go t.awaitInit(exit) // ends with the init
	return t.init.Status().Pid, err
}

func (t *Task) bringBack(ctx context.Context, d *dormant) (exit <-chan reaper.Exit, err error) {
	ctx, end, ok := d.begin(ctx)
	defer end()
	if !ok {
		return nil, errFinished
	}
	err = t.guarded(func() error {
		c, started, err := d.rt.Restore(ctx, d.o, d.images)
		if err != nil {
			return err
		}
		failpoint.Hit("shim/process.restore.container")
		t.set(c)
		t.init.born(started.Pid)
		exit = t.reaper.Watch(started.Pid)
		return t.init.io.Begin(started.Console)
	})
	if err != nil && exit != nil {
		t.undo(exit)
		t.set(d)
	}
	return exit, err
}

// killDormant ends a task that is not restored yet: one that is about to be is given up.
// restored is true when that has come first.
func (t *Task) killDormant(ctx context.Context, d *dormant) (restored bool, err error) {
	d.callOff()
	if err := t.init.enter(ctx); err != nil {
		return false, err
	}
	defer t.init.leave()
	if t.made() != Container(d) {
		return true, nil
	}
	if t.init.Status().State == Created {
		t.init.fail(128 + int(unix.SIGKILL))
	}
	return false, nil
}

// Start implements Container; Task.restore comes in its place.
func (*dormant) Start(context.Context) error { return errDormant }

// Exec implements Container.
func (*dormant) Exec(context.Context, ExecOptions) (Started, error) { return Started{}, errDormant }

// Kill implements Container.
func (*dormant) Kill(context.Context, unix.Signal, bool) error { return errFinished }

// Pause implements Container.
func (*dormant) Pause(context.Context) error { return errDormant }

// Resume implements Container.
func (*dormant) Resume(context.Context) error { return errDormant }

// Checkpoint implements Container.
func (*dormant) Checkpoint(context.Context, CheckpointOptions) error { return errDormant }

// Delete implements Container.
func (*dormant) Delete(context.Context, bool) error { return nil }

// Pids implements Container.
func (*dormant) Pids() ([]int, error) { return nil, nil }

// Update implements Container.
func (*dormant) Update(context.Context, *specs.LinuxResources) error { return errDormant }

// Stats implements Container.
func (*dormant) Stats() (*cgroup.Stats, error) { return nil, errDormant }

// OOM implements Container.
func (*dormant) OOM() (<-chan struct{}, func(), error) {
	return nil, nil, errdefs.NotImplemented("a container without processes needs no memory")
}

// OOMKilled implements Container.
func (*dormant) OOMKilled() (uint64, error) { return 0, nil }
