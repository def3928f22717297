package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	checkpointtypes "github.com/docker/docker/api/types/checkpoint"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/checkpoint"
)

// Names in a container's directory: its checkpoints, and the note of one under way.
const (
	checkpointsDir = "checkpoints"
	checkpointNote = "checkpoint"
)

// checkpoints is the directory of a container's checkpoints; "" is its own.
func (s *Service) checkpoints(c *Snapshot, dir, ref string) (checkpoint.Dir, error) {
	switch {
	case dir == "":
		dir = filepath.Join(s.dir(c.ID), checkpointsDir)
	case !filepath.IsAbs(dir):
		return checkpoint.Dir{}, errdefs.InvalidArgument("checkpoint directory %q is not absolute", dir)
	}
	return checkpoint.Dir{Path: filepath.Clean(dir), Container: ref}, nil
}

// ListCheckpoints lists a container's checkpoints, or those in a directory.
func (s *Service) ListCheckpoints(_ context.Context, ref string, o checkpointtypes.ListOptions) ([]checkpointtypes.Summary, error) {
	e, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	dir, err := s.checkpoints(e.snapshot(), o.CheckpointDir, ref)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir.Path); err != nil && o.CheckpointDir != "" {
		return nil, fmt.Errorf("checkpoint  does not exist for container %s", ref) // dockerd's words, of no name
	}
	names, err := dir.List()
	list := make([]checkpointtypes.Summary, len(names))
	for i, n := range names {
		list[i].Name = n
	}
	return list, err
}

// RemoveCheckpoint removes one.
func (s *Service) RemoveCheckpoint(_ context.Context, ref string, o checkpointtypes.DeleteOptions) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	dir, err := s.checkpoints(e.snapshot(), o.CheckpointDir, ref)
	if err != nil {
		return err
	}
	return dir.Remove(o.CheckpointID)
}

// CreateCheckpoint writes the processes of a running container to files, and with o.Exit
// ends them; it is then as one that a user has stopped. It goes on when the client leaves.
func (s *Service) CreateCheckpoint(ctx context.Context, ref string, o checkpointtypes.CreateOptions) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	err = s.checkpoint(ctx, e, ref, o)
	e.lane.leave()
	if err == nil && o.Exit {
		e.downWithin(ctx, afterKill) // its exit is committed in the lane
	}
	return err
}

// checkpoint does so in the lane.
func (s *Service) checkpoint(ctx context.Context, e *entry, ref string, o checkpointtypes.CreateOptions) error {
	c := e.snapshot()
	switch {
	case c.Status == Restarting:
		return errRestarting(e.id)
	case !c.Status.HasTask():
		return errNotRunning(e.id)
	}
	if err := checkpoint.Check(o.CheckpointID); err != nil {
		return err
	}
	if err := s.canCheckpoint(c); err != nil {
		return err
	}
	if o.Exit && o.CheckpointDir == "" && c.Host.AutoRemove {
		return errdefs.Conflict("cannot checkpoint container %s: it would be removed with its checkpoint when it ends; leave it running, or name a directory", ref)
	}
	dir, err := s.checkpoints(c, o.CheckpointDir, ref)
	if err != nil {
		return err
	}
	draft, err := dir.Draft(o.CheckpointID)
	if err != nil {
		return fmt.Errorf("cannot checkpoint container %s: %w", ref, err)
	}
	return s.dump(ctx, e, ref, checkpoint.Note{Draft: draft, Exit: o.Exit})
}

// canCheckpoint refuses what can't be restored.
func (s *Service) canCheckpoint(c *Snapshot) error {
	switch {
	case !c.IDs.Empty():
		return errdefs.NotImplemented("checkpoints of containers in a user namespace are not supported")
	case s.foreign(c):
		return errdefs.NotImplemented("checkpoints are not supported with runtime %s, whose shim is not the engine's own", c.Host.Runtime)
	}
	return nil
}

// dump has the task write its processes to a draft, which then gets its name.
func (s *Service) dump(ctx context.Context, e *entry, ref string, n checkpoint.Note) (err error) {
	if err := n.Save(s.checkpointNote(e)); err != nil {
		return fmt.Errorf("cannot checkpoint container %s: %w", ref, err)
	}
	defer s.forgetCheckpoint(ctx, e)
	failpoint.Hit("daemon/container.checkpoint.noted")
	ended := false
	defer func() {
		if err != nil && !ended { // what has ended is nowhere else
			s.report(ctx, e, "discard checkpoint that failed", n.Draft.Discard())
		}
	}()
	if err := n.Draft.Make(); err != nil {
		return fmt.Errorf("cannot checkpoint container %s: %w", ref, err)
	}
	failpoint.Hit("daemon/container.checkpoint.made")
	if err := s.dumpTask(ctx, e, n); err != nil {
		return fmt.Errorf("Cannot checkpoint container %s: %w", ref, err) //nolint:staticcheck // Docker's words
	}
	failpoint.Hit("daemon/container.checkpoint.dumped")
	if ended = n.Exit; ended {
		s.stopped(ctx, e)
	}
	if err := n.Draft.Keep(); err != nil {
		return fmt.Errorf("Cannot checkpoint container %s: %w", ref, err) //nolint:staticcheck // Docker's words
	}
	failpoint.Hit("daemon/container.checkpoint.kept")
	s.publish(e.snapshot(), events.ActionCheckpoint, nil)
	return nil
}

// dumpTask writes the processes. Health checks rest, since theirs would be in the way.
func (s *Service) dumpTask(ctx context.Context, e *entry, n checkpoint.Note) error {
	options, err := typeurl.MarshalAny(&runcoptions.CheckpointOptions{ImagePath: n.Draft.Path(), Exit: n.Exit})
	if err != nil {
		return err
	}
	s.restChecks(e.id)
	err = s.Tasks.Checkpoint(ctx, e.id, n.Draft.Path(), options)
	if err != nil || !n.Exit {
		s.beginChecks(e.snapshot())
	}
	return err
}

// stopped notes that a container's end is a user's will.
func (s *Service) stopped(ctx context.Context, e *entry) {
	e.locked(func() { e.noRestart = true })
	s.update(ctx, e, func(n *Snapshot) { n.Stopped = true })
}

func (s *Service) report(ctx context.Context, e *entry, what string, err error) {
	if err != nil {
		s.log.WarnContext(ctx, what, "container", e.id, "err", err)
	}
}

func (s *Service) checkpointNote(e *entry) string { return filepath.Join(s.dir(e.id), checkpointNote) }

func (s *Service) forgetCheckpoint(ctx context.Context, e *entry) {
	if err := os.Remove(s.checkpointNote(e)); !errors.Is(err, fs.ErrNotExist) {
		s.report(ctx, e, "forget checkpoint under way", err)
	}
}

// settleCheckpoint ends what an earlier daemon was at: a checkpoint that the container
// has ended with is kept, for there is nothing else left of its processes; what is not
// whole, and what a container has outlived, goes.
func (s *Service) settleCheckpoint(ctx context.Context, e *entry, live bool) {
	n, ok, err := checkpoint.LoadNote(s.checkpointNote(e))
	s.report(ctx, e, "read what is known of a checkpoint under way", err)
	if ok {
		if n.Exit && !live && n.Draft.Whole() {
			s.stopped(ctx, e)
			s.report(ctx, e, "keep checkpoint", n.Draft.Keep())
		} else {
			s.report(ctx, e, "discard checkpoint that was cut off", n.Draft.Discard())
		}
	}
	if ok || err != nil {
		s.forgetCheckpoint(ctx, e)
	}
	own, _ := s.checkpoints(e.snapshot(), "", "")
	s.report(ctx, e, "remove rests of checkpoints", own.Sweep())
}

// fromCheckpoint is the directory of the checkpoint that a start is to begin from, "" for
// none.
func (s *Service) fromCheckpoint(e *entry, ref string, o containertypes.StartOptions) (string, error) {
	if o.CheckpointID == "" {
		if o.CheckpointDir != "" {
			return "", errdefs.PermissionDenied("custom checkpointdir is not supported")
		}
		return "", nil
	}
	c := e.snapshot()
	if err := s.canCheckpoint(c); err != nil {
		return "", err
	}
	dir, err := s.checkpoints(c, o.CheckpointDir, ref)
	if err != nil {
		return "", err
	}
	return dir.Find(o.CheckpointID)
}

// restoreTimeout bounds a start from a checkpoint, which reads all memory from disk.
const restoreTimeout = 10 * time.Minute

// startTask lets the task go on, or brings it back from its checkpoint.
func (s *Service) startTask(ctx context.Context, e *entry, p *prepared) (pid uint32, err error) {
	if p.checkpoint == "" {
		return s.Tasks.Start(ctx, e.id, "")
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	pid, err = s.Tasks.Start(ctx, e.id, "")
	if err != nil {
		err = retold{taskPrefix + err.Error(), err}
	}
	return pid, err
}
