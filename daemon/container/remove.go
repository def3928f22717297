package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	timetypes "github.com/docker/docker/api/types/time"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
)

// Remove takes a container away; it is gone from disk when it is answered. A running
// one needs Force. It goes on when the client leaves.
func (s *Service) Remove(ctx context.Context, ref string, o containertypes.RemoveOptions) error {
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	if o.RemoveLinks {
		return s.removeLink(ctx, e, ref)
	}
	return s.remove(context.WithoutCancel(ctx), e, ref, o)
}

// errBusyRemoving says that somebody else is at it.
var errBusyRemoving = errors.New("removal is in progress")

type busyRemoving struct{ error }

func (b busyRemoving) Unwrap() []error { return []error{b.error, errBusyRemoving} }

func (s *Service) remove(ctx context.Context, e *entry, ref string, o containertypes.RemoveOptions) (err error) {
	if !e.removing.CompareAndSwap(false, true) {
		return busyRemoving{errdefs.Conflict("removal of container %s is already in progress", ref)}
	}
	defer func() {
		if err != nil {
			e.removing.Store(false)
		}
	}()
	if s.entry(e.id) != e { // a removal that has just ended
		return nil
	}
	if o.Force {
		e.breakStart(errdefs.Conflict("container %s is being removed", e.id))
	}
	if err := s.endFor(ctx, e, o.Force); err != nil {
		return fmt.Errorf("cannot remove container %q: %w", ref, err)
	}
	if err := e.lane.enter(ctx); err != nil {
		return err
	}
	defer e.lane.leave()
	if err := s.takeAway(ctx, e, o.RemoveVolumes); err != nil {
		return fmt.Errorf("cannot remove container %q: %w", ref, err)
	}
	return nil
}

// endFor makes sure that the container does not run.
func (s *Service) endFor(ctx context.Context, e *entry, force bool) error {
	st := e.snapshot().Status
	switch {
	case !st.Up():
		return nil
	case !force && st == Paused:
		return errdefs.Conflict("container is paused and must be unpaused first")
	case !force:
		return errdefs.Conflict("container is %s: stop the container before removing or force remove", st)
	}
	if err := s.kill(ctx, e); err != nil && !isNotRunning(err) {
		return fmt.Errorf("could not kill container: %w", err)
	}
	if e.snapshot().Status.Up() && !e.downWithin(ctx, beforeRemove*time.Second) {
		return errors.New("could not kill container: it still runs")
	}
	return nil
}

// takeAway removes the parts, then the record; in the lane. What fails leaves the
// container dead, to be removed again.
func (s *Service) takeAway(ctx context.Context, e *entry, volumes bool) error {
	next, err := e.snapshot().Status.After(Remove)
	if err != nil {
		return err
	}
	s.update(ctx, e, func(n *Snapshot) { n.Status, n.RemoveVolumes = next, volumes })
	s.endWriting(ctx, e)
	failpoint.Hit("daemon/container.remove.marked")
	s.forwards.Remove(ctx, e.id)
	if err := s.removeParts(ctx, e, volumes); err != nil {
		s.update(ctx, e, func(n *Snapshot) { n.Status, n.Error = Dead, err.Error() })
		e.wakeFailed()
		return err
	}
	failpoint.Hit("daemon/container.remove.forgotten")
	c := e.snapshot()
	e.change(func(n *Snapshot) { n.Error = "" }) // who waits for the removal hears of that alone
	s.drop(e)
	e.dropParked()
	s.stats.Stop(e.id)
	s.publish(c, events.ActionDestroy, nil)
	e.wake(true)
	return nil
}

// removeParts takes the record last: what a crash cuts off is then ended by Restore.
func (s *Service) removeParts(ctx context.Context, e *entry, volumes bool) error {
	s.releaseQuota(ctx, e.snapshot().Record)
	if err := s.Images.RemoveSnapshot(ctx, e.id); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.remove.snapshot")
	if err := s.removeViews(ctx, e.id); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.remove.views")
	s.unmountShm(e.id)
	if err := removeDir(s.dir(e.id)); err != nil {
		return wrap("unable to remove filesystem", err)
	}
	failpoint.Hit("daemon/container.remove.directory")
	for _, p := range e.snapshot().Mounts {
		if err := s.releaseVolume(ctx, e.id, p, volumes); err != nil {
			s.log.ErrorContext(ctx, "release volume", "container", e.id, "volume", p.Name, "err", err)
		}
	}
	failpoint.Hit("daemon/container.remove.volumes")
	return s.store.remove(e.id)
}

// removeDir removes a container's directory. The shim of a start that was broken off may
// write its log into it until the core has ended it.
func removeDir(path string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := os.RemoveAll(path)
		if !errors.Is(err, unix.ENOTEMPTY) || wait > time.Second {
			return err
		}
		time.Sleep(wait)
	}
}

var pruneFilters = map[string]bool{"label": true, "label!": true, "until": true}

// Prune removes containers that do not run and match. When the client leaves it ends
// after the container it is at.
func (s *Service) Prune(ctx context.Context, f filters.Args) (containertypes.PruneReport, error) {
	var report containertypes.PruneReport
	if !s.pruning.CompareAndSwap(false, true) {
		return report, errdefs.Conflict("a prune operation is already running")
	}
	defer s.pruning.Store(false)
	if err := f.Validate(pruneFilters); err != nil {
		return report, err
	}
	until, err := untilOf(f)
	if err != nil {
		return report, err
	}
	for _, c := range s.sorted() {
		e := s.entry(c.ID)
		if ctx.Err() != nil {
			return report, nil
		}
		if e == nil || e.snapshot().Status.Up() || !until.IsZero() && c.Created.After(until) || !matchLabels(f, c.Config.Labels) {
			continue
		}
		usage, _ := s.Images.Usage(ctx, e.id) // what can't be told is not counted
		if err := s.remove(context.WithoutCancel(ctx), e, e.id, containertypes.RemoveOptions{}); err != nil {
			s.log.WarnContext(ctx, "prune container", "container", e.id, "err", err)
			continue
		}
		report.SpaceReclaimed += uint64(max(usage.Size, 0))
		report.ContainersDeleted = append(report.ContainersDeleted, e.id)
	}
	s.Events.Publish(events.ContainerEventType, events.ActionPrune, events.Actor{
		Attributes: map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)},
	})
	return report, nil
}

func untilOf(f filters.Args) (time.Time, error) {
	values := f.Get("until")
	switch {
	case len(values) == 0:
		return time.Time{}, nil
	case len(values) > 1:
		return time.Time{}, errdefs.InvalidArgument("more than one until filter specified")
	}
	stamp, err := timetypes.GetTimestamp(values[0], time.Now())
	if err != nil {
		return time.Time{}, invalid(err)
	}
	sec, nano, err := timetypes.ParseTimestamps(stamp, 0)
	if err != nil {
		return time.Time{}, invalid(err)
	}
	return time.Unix(sec, nano), nil
}

func matchLabels(f filters.Args, labels map[string]string) bool {
	return f.MatchKVList("label", labels) && !(f.Contains("label!") && f.MatchKVList("label!", labels))
}
