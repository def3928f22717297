package container

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/logger/forward"
	"gantry/daemon/network"
	"gantry/daemon/restart"
	"gantry/daemon/spec"
	corecontainer "gantry/libctr/core/container"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

// Start starts a container; NotModified when it runs already. A start that has begun
// is not ended by the client's leaving.
func (s *Service) Start(ctx context.Context, ref string, o containertypes.StartOptions) error {
	if o.CheckpointID != "" && !s.cfg.Experimental {
		return errdefs.InvalidArgument("checkpoint is only supported in experimental mode")
	}
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := e.startable(); err != nil {
		return err
	}
	host := *e.snapshot().Host // what the check changes is of no interest here
	if _, err := spec.Validate(nil, &host, s.machine(e.snapshot().IDs), false); err != nil {
		return invalid(err)
	}
	from, err := s.fromCheckpoint(e, ref, o)
	if err != nil {
		return err
	}
	return s.startFrom(ctx, e, from)
}

// startNow starts in the lane, by a user's will: the policy begins anew.
func (s *Service) startNow(ctx context.Context, e *entry) error { return s.startFrom(ctx, e, "") }

// startFrom is startNow with the processes of the checkpoint in a directory, "" for none.
func (s *Service) startFrom(ctx context.Context, e *entry, checkpoint string) error {
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	err := func() error {
		defer e.lane.leave()
		if err := e.startable(); err != nil {
			return err
		}
		e.locked(func() { e.attempt, e.noRestart = restart.Attempt{}, false })
		return s.begin(ctx, e, checkpoint)
	}()
	if err != nil && errdefs.Class(err) != errdefs.ErrNotModified {
		s.autoRemove(ctx, e)
	}
	return err
}

// startable checks without the lane what would end a start at once. A container that
// waits for its restart counts as running.
func (e *entry) startable() error {
	st := e.snapshot().Status
	if e.removing.Load() && !st.Up() {
		return errdefs.Conflict("container is marked for removal and cannot be started")
	}
	if st == Restarting {
		st = Running
	}
	_, err := st.After(Start)
	return err
}

// start runs the container; the caller is in its lane. On failure the state says why
// and nothing else is left.
func (s *Service) start(ctx context.Context, e *entry) error { return s.begin(ctx, e, "") }

func (s *Service) begin(ctx context.Context, e *entry, checkpoint string) error {
	ctx, settle := s.breakable(ctx, e)
	err := settle(s.try(ctx, e, checkpoint))
	if err == nil {
		return nil
	}
	code := 0
	if c, ok := errors.AsType[coded](err); ok {
		code, err = c.code, c.error
	}
	s.update(ctx, e, func(n *Snapshot) {
		n.Error, n.ExitCode = err.Error(), codeOfFailed(n, code)
		n.Pid = 0
		n.Network = n.Network.down()
		if n.Status == Restarting {
			n.Status = Exited
		}
	})
	e.dropParked()
	e.wakeIfDown()
	return err
}

// codeOfFailed is the exit code that is shown after a start which failed with code, 0
// where that is not known: a restart by the policy keeps that of the run before, and so
// does a start that failed before the runtime was asked.
func codeOfFailed(n *Snapshot, code int) int {
	switch {
	case n.Status == Restarting:
		return n.ExitCode
	case code != 0:
		return code
	case n.ExitCode != 0:
		return n.ExitCode
	}
	return exitUnknown
}

// coded is a failed start that knows its exit code.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

// try is the start itself, in DESIGN's order: network, mounts and specification side by
// side, then the core's record, its task, what our shim holds for us, and the go.
func (s *Service) try(ctx context.Context, e *entry, checkpoint string) (err error) {
	var steps undo.Stack
	defer func() { steps.OnError(ctx, undoTime, &err) }()

	c := e.snapshot()
	s.endWriting(ctx, e)
	p, err := s.prepare(ctx, c, &steps)
	if err != nil {
		return err
	}
	e.change(func(n *Snapshot) { n.Network = networkOf(p.sandbox).down() }) // a start that fails leaves the files' places, as with dockerd
	failpoint.Hit("daemon/container.start.prepared")
	defer p.close(ctx)
	p.checkpoint = checkpoint
	if err := s.createInCore(ctx, c, p, &steps); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.start.core-created")
	if p.target, err = s.openTarget(ctx, e, c, &steps); err != nil {
		return err
	}
	if err := s.createTask(ctx, c, p, &steps); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.start.task-created")
	if err := s.handOver(ctx, c, p); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.start.handed-over")
	return s.run(ctx, e, p, &steps)
}

// handOver gives the sockets of published ports to our shim, or the keeper in its place,
// with which they live.
func (s *Service) handOver(ctx context.Context, c *Snapshot, p *prepared) (err error) {
	if len(p.sandbox.Held) == 0 {
		return nil
	}
	ctx, end := step(ctx, "hand over published ports")
	defer end(&err)
	if err := s.Hold(ctx, s.socket(c.ID), p.sandbox.Held); err != nil {
		return wrap("hand over published ports", err)
	}
	return nil
}

// run starts the task and commits that it runs.
func (s *Service) run(ctx context.Context, e *entry, p *prepared, steps *undo.Stack) error {
	r := s.newRun(time.Now())
	e.locked(func() { e.run = r })
	steps.Add("forget run", func(context.Context) error {
		e.locked(func() { e.run = nil })
		return nil
	})
	s.connectParked(ctx, e) // who comes later finds the run and connects itself
	begun := time.Now().UTC()
	pid, err := s.startTask(ctx, e, p)
	if err != nil {
		return taskError(err)
	}
	failpoint.Hit("daemon/container.start.started")
	committing, end := step(ctx, "commit state running")
	defer end(&err)
	restarts := e.restarts()
	next := s.update(committing, e, func(n *Snapshot) {
		n.Stopped = n.Stopped && n.Status == Restarting // the policy's start is no user's will
		n.Status, n.Pid, n.StartedAt = Running, int(pid), begun
		n.ExitCode, n.Error, n.OOMKilled, n.Started = 0, "", false, true
		n.Network = networkOf(p.sandbox)
		n.RestartCount = restarts
		n.Health = firstHealth(n)
	})
	failpoint.Hit("daemon/container.start.recorded")
	s.watch(e, r)
	s.forward(next, p.target)
	s.beginChecks(next)
	s.publish(next, events.ActionStart, nil)
	return nil
}

func networkOf(sb *network.Sandbox) Network {
	return Network{
		NetnsPath: sb.NetnsPath, Ports: maps.Clone(sb.Ports), Networks: maps.Clone(sb.Networks),
		HostsPath: sb.HostsPath, NamePath: sb.NamePath, ResolvPath: sb.ResolvPath,
	}
}

// down is what stays of the network when the container has ended: its files' places.
func (n Network) down() Network {
	return Network{HostsPath: n.HostsPath, NamePath: n.NamePath, ResolvPath: n.ResolvPath}
}

func (s *Service) createInCore(ctx context.Context, c *Snapshot, p *prepared, steps *undo.Stack) error {
	raw, err := spec.Any(p.spec)
	if err != nil {
		return err
	}
	rt, err := s.runtime(c)
	if err != nil {
		return err
	}
	if p.options, err = withOwner(rt, c.IDs); err != nil {
		return err
	}
	p.shim = rt.Path
	record := corecontainer.Container{
		ID: c.ID, Image: p.image, Spec: raw, SnapshotKey: c.ID, Snapshotter: s.cfg.Snapshotter,
		Runtime: corecontainer.Runtime{Name: rt.Name, Options: p.options},
		Labels:  map[string]string{bundleLabel: s.dir(c.ID), corecontainer.LabelOfBoot: "true"},
	}
	_, err = s.Containers.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) { // of a run that was cut off
		if err := s.clearCore(ctx, c.ID); err != nil {
			return err
		}
		_, err = s.Containers.Create(ctx, record)
	}
	if err != nil {
		return taskError(err)
	}
	steps.Add("delete core container", func(ctx context.Context) error { return ignoreNotFound(s.Containers.Delete(ctx, c.ID)) })
	return nil
}

func (s *Service) createTask(ctx context.Context, c *Snapshot, p *prepared, steps *undo.Stack) error {
	io, err := s.openStreams(ctx, c, steps)
	if err != nil {
		return err
	}
	_, err = s.Tasks.Create(ctx, task.CreateOptions{
		ContainerID: c.ID, Rootfs: p.rootfs, IO: io, Options: p.options, Checkpoint: p.checkpoint, ShimPath: p.shim,
	})
	if err != nil {
		return taskError(withPrefix(err))
	}
	steps.Add("delete task", func(ctx context.Context) error { return s.killTask(ctx, c.ID) })
	return nil
}

// killTask ends and deletes a task that must not be.
func (s *Service) killTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, undoTime) // of a stuck shim nothing comes
	defer cancel()
	if err := s.Tasks.Kill(ctx, id, "", 9, true); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	if _, err := s.Tasks.Wait(ctx, id, ""); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	_, err := s.Tasks.Delete(ctx, id, "")
	return ignoreNotFound(err)
}

// clearCore takes away what the core has of a container that does not run.
func (s *Service) clearCore(ctx context.Context, id string) error {
	if err := s.killTask(ctx, id); err != nil {
		return err
	}
	if err := s.endStreams(ctx, id); err != nil {
		return err
	}
	return ignoreNotFound(s.Containers.Delete(ctx, id))
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// taskError puts exit code and class on what the core refused.
func taskError(err error) error {
	code, err := startError("", err)
	return coded{err, code}
}

// prepared is what a start needs before the core is asked.
type prepared struct {
	rootfs  []mount.Mount
	sandbox *network.Sandbox
	donor   *containertypes.Config // of the container whose network is joined
	spec    *specs.Spec
	image   string
	options typeurl.Any     // for the shim
	shim    string          // its path, where the core would not find it
	target  *forward.Target // of the log; nil where that is not remote
	staged  undo.Stack      // what the container has by itself once it is made
	// checkpoint is the directory that the processes come from, "" for none.
	checkpoint string
}

// close gives up what the container has by now, or never gets.
func (p *prepared) close(ctx context.Context) {
	p.sandbox.CloseHeld()
	back(ctx, &p.staged) //nolint:errcheck // the next start of the daemon clears it
}
