package container

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/restart"
	corecontainer "gantry/libctr/core/container"
	"gantry/libctr/core/task"
)

func (s *Service) loadAll() error {
	in, err := s.store.load()
	if err != nil {
		return err
	}
	s.unreadable = in.unreadable
	for id, err := range in.unreadable {
		s.log.Error("record of a container cannot be read; it and what belongs to it are left alone",
			"container", id, "path", s.dir(id), "err", err)
	}
	for _, c := range in.all {
		if c.Status == "" { // a power cut took the state
			c.Status = Created
		}
		if !in.fresh[c.ID] {
			c.Network = c.Network.down()
		}
		s.index.Reserve(c.Name, c.ID)
		e := newEntry(c)
		s.add(e)
		if in.ahead[c.ID] {
			s.mark(e, false)
		}
	}
	for _, c := range in.all {
		s.reserveLinks(c.Name, c.Links)
	}
	return nil
}

// Restore takes up what the daemon before left: running tasks are adopted, missed
// exits committed, what was cut off halfway cleared away, and restart policies applied.
// It is called once, before the first request; starts go on after it has returned.
func (s *Service) Restore(ctx context.Context) error {
	s.spawn(s.flusher)
	if s.CoreEvents != nil {
		s.spawn(s.listen)
	}
	if err := s.sources.Clear(); err != nil {
		s.log.WarnContext(ctx, "clear mounts of an earlier run", "err", err)
	}
	inCore, err := s.Containers.List(ctx)
	if err != nil {
		return wrap("list core containers", err)
	}
	found, err := s.remains(ctx, inCore)
	if err != nil {
		return err
	}
	live := map[string]bool{}
	for _, e := range s.all() {
		st, ok := found[e.id]
		live[e.id] = ok && alive(st) && e.snapshot().Status.HasTask()
		s.restoreDir(ctx, e)
		s.restoreVolumes(ctx, e, live[e.id])
	}
	failpoint.Hit("daemon/container.restore.volumes")
	for id := range s.unreadable {
		live[id] = true // for all that is known
	}
	if err := s.Networks.Restore(ctx, live); err != nil {
		return wrap("restore networks", err)
	}
	failpoint.Hit("daemon/container.restore.networks")
	if err := s.sweep(ctx, inCore); err != nil {
		return err
	}
	failpoint.Hit("daemon/container.restore.swept")
	if s.Keepers != nil {
		s.Keepers.Sweep(ctx, func(id string) bool {
			_, inCore := found[id]
			return inCore || live[id] // what is in the core has its streams ended with its task
		})
	}
	for _, e := range s.all() {
		s.forward(e.snapshot(), nil)
		s.settleCheckpoint(ctx, e, live[e.id])
		st, ok := found[e.id]
		switch {
		case live[e.id]:
			s.adopt(ctx, e, st)
			s.thawLeft(ctx, e)
			s.updateLeft(e)
			continue
		case ok && !e.snapshot().Status.HasTask():
			s.clear(ctx, e)
		}
		s.resume(ctx, e, st)
	}
	failpoint.Hit("daemon/container.restore.resumed")
	s.spawn(s.startByPolicy)
	return nil
}

// remains are the tasks of the containers that the core has, the zero State where there
// is none. It asks many at once: a shim that is stuck takes its time to be given up.
func (s *Service) remains(ctx context.Context, inCore []corecontainer.Container) (map[string]task.State, error) {
	var (
		g     errgroup.Group
		mu    sync.Mutex
		found = map[string]task.State{}
	)
	g.SetLimit(32)
	for _, c := range inCore {
		if s.entry(c.ID) == nil {
			continue
		}
		g.Go(func() error {
			st, err := s.Tasks.Get(ctx, c.ID, "")
			switch {
			case errdefs.IsNotFound(err):
				st, err = task.State{}, nil
			case errors.Is(err, context.DeadlineExceeded): // its shim does not answer, nor does the core for it
				st, err = task.State{ContainerID: c.ID}, nil
			}
			if err != nil {
				return wrap("ask for container "+c.ID, err)
			}
			mu.Lock()
			defer mu.Unlock()
			found[c.ID] = st
			return nil
		})
	}
	return found, g.Wait()
}

// alive: a task whose shim does not answer in time counts as running. Should it have
// ended, Wait will tell.
func alive(st task.State) bool {
	switch st.Status {
	case task.StatusRunning, task.StatusPaused, task.StatusPausing:
		return true
	}
	return st.Status == task.StatusUnknown && st.ContainerID != ""
}

// restoreDir makes the container's directory again, which a power cut may have taken
// though the record was synced; what belongs in it is made at each start.
func (s *Service) restoreDir(ctx context.Context, e *entry) {
	if os.Mkdir(s.dir(e.id), 0o710) == nil {
		s.log.WarnContext(ctx, "directory of a container was lost", "container", e.id)
	}
}

func (s *Service) restoreVolumes(ctx context.Context, e *entry, mounted bool) {
	for _, p := range e.snapshot().Mounts {
		if p.Type != mounttypes.TypeVolume {
			continue
		}
		if err := s.Volumes.Restore(ctx, p.Name, e.id, mounted); err != nil {
			s.log.WarnContext(ctx, "restore volume", "container", e.id, "volume", p.Name, "err", err)
		}
	}
}

// resume goes on with a container that has no living task; st is what is known of its
// end, if anything.
func (s *Service) resume(ctx context.Context, e *entry, st task.State) {
	c := e.snapshot()
	if !c.Status.HasTask() {
		s.unmountShm(e.id)
	}
	switch {
	case c.Status.HasTask():
		exit := task.Exit{Code: exitLost}
		if c.Exit != nil { // its release was cut off
			exit = task.Exit{Code: c.Exit.Code, At: c.Exit.At}
		}
		if st.Status == task.StatusStopped {
			exit = task.Exit{Code: st.ExitStatus, At: st.ExitedAt}
		}
		s.commitExit(ctx, e, exit)
		if e.snapshot().Status == Exited {
			s.spawn(func() { s.autoRemove(context.WithoutCancel(s.life), e) })
		}
	case c.Status == Restarting:
		s.restartAfter(e, c.RestartWait)
	case c.Status == Removing:
		s.spawn(func() { s.finishRemoval(e) })
	}
}

// adopt takes up a running task; one that nobody can tell of as it was, until its shim
// answers.
func (s *Service) adopt(ctx context.Context, e *entry, st task.State) {
	r := s.newRun(time.Time{})
	e.locked(func() { e.run = r })
	if st.Status != task.StatusUnknown {
		s.learned(ctx, e, st)
	}
	s.spawn(func() { s.adoptStreams(s.life, e.snapshot()) }) // a keeper may hang
	s.watch(e, r)
	if st.Status == task.StatusUnknown {
		s.spawn(func() { s.learn(e, r) })
	}
}

// learnEvery is how often a shim is asked again that did not answer at start.
const learnEvery = time.Second

// learn notes what a task is really like once its shim answers. It ends with the run or
// the daemon.
func (s *Service) learn(e *entry, r *run) {
	tick := time.NewTicker(learnEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.done:
			return
		case <-s.life.Done():
			return
		}
		if st, err := s.Tasks.Get(s.life, e.id, ""); err == nil && st.Status != task.StatusUnknown {
			s.settleLearned(e, r, st)
			return
		}
	}
}

func (s *Service) settleLearned(e *entry, r *run, st task.State) {
	if e.lane.enter(s.life) != nil {
		return
	}
	defer e.lane.leave()
	var current bool
	e.locked(func() { current = e.run == r })
	if current && alive(st) {
		s.learned(s.life, e, st)
	}
}

// learned notes what a task is really like; the checks of one that runs begin anew.
func (s *Service) learned(ctx context.Context, e *entry, st task.State) {
	next := s.update(ctx, e, func(n *Snapshot) {
		n.Pid, n.Status = int(st.PID), statusOf(st)
		if n.Status == Running {
			n.Health = firstHealth(n)
		}
	})
	s.beginChecks(next)
}

// clear takes away what a cut-off start left in the core of a container that is down.
func (s *Service) clear(ctx context.Context, e *entry) {
	if err := s.clearCore(ctx, e.id); err != nil {
		s.log.WarnContext(ctx, "clear core", "container", e.id, "err", err)
	}
}

// finishRemoval ends a removal that was cut off.
func (s *Service) finishRemoval(e *entry) {
	ctx := context.WithoutCancel(s.life)
	e.change(func(n *Snapshot) { n.Status = Dead })
	c := e.snapshot()
	o := containertypes.RemoveOptions{Force: true, RemoveVolumes: c.RemoveVolumes || c.Host.AutoRemove}
	if err := s.remove(ctx, e, e.id, o); err != nil && !errors.Is(err, errBusyRemoving) {
		s.log.ErrorContext(ctx, "finish removal", "container", e.id, "err", err)
	}
}

// sweep takes away what has no record: containers of ours in the core, directories and
// their snapshots.
func (s *Service) sweep(ctx context.Context, inCore []corecontainer.Container) error {
	for _, c := range inCore {
		if !s.owns(c) || s.known(c.ID) {
			continue
		}
		s.log.WarnContext(ctx, "clear container without record", "container", c.ID)
		if err := s.clearCore(ctx, c.ID); err != nil { // the next start tries again
			s.log.ErrorContext(ctx, "clear container without record", "container", c.ID, "err", err)
		}
	}
	dirs, err := os.ReadDir(s.cfg.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		if s.known(d.Name()) || !isID(d.Name()) {
			continue
		}
		s.unmountShm(d.Name())
		s.releaseAnyQuota(ctx, d.Name())
		if err := s.Images.RemoveSnapshot(ctx, d.Name()); err != nil {
			return err
		}
		if err := s.removeNoted(ctx, d.Name()); err != nil {
			return err
		}
		if err := s.removeViews(ctx, d.Name()); err != nil {
			return err
		}
		if err := os.RemoveAll(s.dir(d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// bundleLabel marks the core's containers that are ours by the directory they belong to.
const bundleLabel = "com.docker/engine.bundle.path"

func (s *Service) owns(c corecontainer.Container) bool {
	return strings.HasPrefix(c.Labels[bundleLabel], s.cfg.Root+"/")
}

// known tells of containers that have a record, be it one that cannot be read.
func (s *Service) known(id string) bool {
	_, unreadable := s.unreadable[id]
	return unreadable || s.entry(id) != nil
}

func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// startByPolicy starts what is down and should not be, in the order of need, and
// removes what asked for it.
func (s *Service) startByPolicy() {
	ctx := context.WithoutCancel(s.life)
	for _, wave := range s.inStartOrder() {
		var g errgroup.Group
		g.SetLimit(2 * runtime.NumCPU())
		for _, e := range wave {
			c := e.snapshot()
			if c.Status != Created && c.Status != Exited || s.closing.Load() {
				continue
			}
			policy := restart.Policy(c.Host.RestartPolicy)
			switch {
			case c.Started && policy.AtBoot(c.RestartCount, c.ExitCode, c.Stopped):
				g.Go(func() error { s.startAtBoot(ctx, e); return nil })
			case c.Host.AutoRemove: // also one that has never been started, whose client has gone
				g.Go(func() error { s.autoRemove(ctx, e); return nil })
			}
		}
		g.Wait() //nolint:errcheck // they report for themselves
	}
}

func (s *Service) startAtBoot(ctx context.Context, e *entry) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, unattended{}, true), time.Minute)
	defer cancel()
	if err := s.startNow(ctx, e); err != nil && !errdefs.IsNotModified(err) {
		s.log.ErrorContext(ctx, "start container by its policy", "container", e.id, "err", err)
	}
}

// statusOf is what a live task's state means for its container.
func statusOf(st task.State) Status {
	if st.Status == task.StatusPaused || st.Status == task.StatusPausing {
		return Paused
	}
	return Running
}
