package container

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/health"
	"gantry/daemon/restart"
	"gantry/daemon/stats"
	"gantry/libctr/core/task"
)

// exitLost is the code of a run whose end nobody saw.
const exitLost = 255

// watch waits for the task's end and commits it. It ends with the daemon; the task
// then goes on and Restore takes it up again.
func (s *Service) watch(e *entry, r *run) {
	s.spawn(func() {
		exit, ok := s.await(e.id, r)
		if !ok {
			return
		}
		s.ended(e, r, exit)
	})
}

// How long a core is left alone that does not tell, growing.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 2 * time.Second
)

// levelOf makes little of a core that is away, which is told once and not for each container.
func levelOf(err error) slog.Level {
	if errors.Is(err, errdefs.ErrUnavailable) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// await asks the core for the exit until it has an answer; false when the daemon ends.
func (s *Service) await(id string, r *run) (task.Exit, bool) {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		asked := time.Now()
		exit, err := s.Tasks.Wait(s.life, id, "")
		switch {
		case err == nil:
			return exit, true
		case s.life.Err() != nil:
			return task.Exit{}, false
		case errdefs.IsNotFound(err):
			return r.lost(s.life), true
		}
		if time.Since(asked) > lastWait { // it was there
			wait = firstWait
		}
		s.log.Log(s.life, levelOf(err), "wait for container", "container", id, "err", err)
		select {
		case <-time.After(wait):
		case <-s.life.Done():
			return task.Exit{}, false
		}
	}
}

// tellTime is how long the core's event of an exit may take after its answer that there
// is no such task any more.
const tellTime = time.Second

// lost is how a task has ended that the core has forgotten.
func (r *run) lost(ctx context.Context) task.Exit {
	if r.told != nil {
		ctx, cancel := context.WithTimeout(ctx, tellTime)
		defer cancel()
		select {
		case exit := <-r.told:
			return exit
		case <-ctx.Done():
		}
	}
	return task.Exit{Code: exitLost, At: time.Now()}
}

// ended commits an exit, once: the run's parts are released, then the state changes,
// then the event, then who waits for it. In the lane, so after the start's own commit.
func (s *Service) ended(e *entry, r *run, exit task.Exit) {
	ctx := context.WithoutCancel(s.life)
	e.lane.enter(ctx) //nolint:errcheck // ctx has no end
	var current bool
	e.locked(func() {
		if current = e.run == r; current {
			e.run = nil
		}
	})
	if !current {
		e.lane.leave()
		return
	}
	s.commitExit(ctx, e, exit)
	close(r.done)
	var manual bool
	e.locked(func() { manual = e.byUser > 0 })
	e.lane.leave()
	if !manual && e.snapshot().Status == Exited {
		s.autoRemove(ctx, e)
	}
}

// commitExit is ended's work in the lane; Restore uses it for exits it has missed.
func (s *Service) commitExit(ctx context.Context, e *entry, exit task.Exit) {
	if exit.At.IsZero() {
		exit.At = time.Now()
	}
	s.restChecks(e.id)
	oom := s.killedForMemory(ctx, e, int(exit.Code))
	var untold bool
	// The exit first: after the task's release nobody else could tell it.
	before := s.update(ctx, e, func(n *Snapshot) {
		untold = oom && !n.OOMKilled
		n.Exit = &Ended{Code: exit.Code, At: exit.At.UTC(), OOM: oom}
		n.OOMKilled = n.OOMKilled || oom
	})
	failpoint.Hit("daemon/container.exit.noted")
	if untold {
		s.publish(before, events.ActionOOM, nil)
	}
	s.release(ctx, e)
	failpoint.Hit("daemon/container.exit.released")
	s.exited(e.id)
	ran := exit.At.Sub(before.StartedAt)
	again, wait := s.decide(e, int(exit.Code), ran)
	s.settle(ctx, e, exit, ran, oom, again, wait)
	failpoint.Hit("daemon/container.exit.recorded")
	if again {
		s.restartAfter(e, wait)
	}
	e.wake(false)
}

// settle changes the state to that after the exit, and tells it. Who sends a signal, or
// has seen the container down, waits for this with kills: die comes after kill and
// before stop.
func (s *Service) settle(ctx context.Context, e *entry, exit task.Exit, ran time.Duration, oom, again bool, wait time.Duration) {
	e.kills.Lock()
	defer e.kills.Unlock()
	next := s.update(ctx, e, func(n *Snapshot) {
		n.Status = Exited
		if again {
			n.Status = Restarting
			n.RestartWait = wait
			n.RestartCount++
		}
		n.Pid, n.ExitCode, n.FinishedAt = 0, int(exit.Code), exit.At.UTC()
		n.OOMKilled = n.OOMKilled || oom
		n.Exit = nil
		n.Network = n.Network.down()
		n.Health = health.Rest(n.Health)
	})
	s.publish(next, events.ActionDie, map[string]string{
		"exitCode":     strconv.Itoa(next.ExitCode),
		"execDuration": strconv.Itoa(int(max(ran, 0).Seconds())),
	})
}

// release gives back what a run had: the task, the network, mounts and the core's
// record. What fails is logged; the next start or Restore tries again.
func (s *Service) release(ctx context.Context, e *entry) {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	c := e.snapshot()
	report := func(what string, err error) {
		if ignoreNotFound(err) != nil {
			s.log.WarnContext(ctx, what, "container", e.id, "err", err)
		}
	}
	var side sync.WaitGroup
	if !c.Host.NetworkMode.IsContainer() {
		side.Go(func() {
			report("release network", s.Networks.Release(ctx, e.id))
			failpoint.Hit("daemon/container.exit.network-released")
		})
	}
	e.runOver()
	_, err := s.Tasks.Delete(ctx, e.id, "")
	report("delete task", err)
	failpoint.Hit("daemon/container.exit.task-deleted")
	report("end streams", s.endStreams(ctx, e.id))
	s.bequeath(ctx, e)
	report("delete core container", s.Containers.Delete(ctx, e.id))
	failpoint.Hit("daemon/container.exit.core-deleted")
	side.Wait()
	s.unmountAll(ctx, c)
	if c.Host.IpcMode.IsShareable() {
		s.unmountShm(e.id)
	}
}

// exitKilled is the code of a run that KILL ended, as lack of memory does.
const exitKilled = 137

// killedForMemory asks the counters before they go, since the event may come too late,
// or have come while there was no daemon. It does so where it may be expected: a process
// that was killed may have been another than the one whose exit this is.
func (s *Service) killedForMemory(ctx context.Context, e *entry, code int) bool {
	c := e.snapshot()
	switch {
	case c.Exit != nil: // asked before, and the counters have gone
		return c.Exit.OOM
	case c.OOMKilled || code != exitKilled && c.Host.Memory == 0:
		return c.OOMKilled
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	metrics, err := s.Tasks.Metrics(ctx, e.id)
	return err == nil && stats.OOMKilled(metrics)
}

// decide applies the restart policy.
func (s *Service) decide(e *entry, code int, ran time.Duration) (again bool, wait time.Duration) {
	c := e.snapshot()
	e.mu.Lock()
	defer e.mu.Unlock()
	policy := restart.Policy(c.Host.RestartPolicy)
	stopped := e.noRestart || e.removing.Load() || s.closing.Load()
	if c.Stopped && policy.Name == containertypes.RestartPolicyUnlessStopped {
		stopped = true
	}
	next, again := policy.Next(e.attempt, restart.Exit{Code: code, Ran: ran, Stopped: stopped})
	if again {
		e.attempt = next
	}
	return again, next.Wait
}

// restarts is how often the policy has restarted the container since a user started it.
func (e *entry) restarts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.attempt.Count
}

// pending is a restart that waits for its time.
type pending struct {
	off  chan struct{} // closed to call it off
	once sync.Once
}

// restartAfter starts the container again after wait, unless it is called off.
func (s *Service) restartAfter(e *entry, wait time.Duration) {
	p := &pending{off: make(chan struct{})}
	e.locked(func() { e.pending = p })
	s.spawn(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			s.awaitDonors(e, p.off)
		case <-p.off:
		case <-s.life.Done():
		}
		if s.life.Err() != nil {
			return // Restore goes on
		}
		s.again(e, p)
	})
}

// again makes the pending restart p, or settles that it is not made.
func (s *Service) again(e *entry, p *pending) {
	ctx := context.WithoutCancel(s.life)
	e.lane.enter(ctx) //nolint:errcheck // ctx has no end
	var mine bool
	e.locked(func() {
		if mine = e.pending == p; mine {
			e.pending = nil
		}
	})
	if !mine || e.snapshot().Status != Restarting {
		e.lane.leave()
		return
	}
	select {
	case <-p.off:
		s.update(ctx, e, func(n *Snapshot) { n.Status = Exited })
		e.wake(false)
	default:
		if err := s.start(ctx, e); err != nil {
			s.log.ErrorContext(ctx, "restart container", "container", e.id, "err", err)
		}
	}
	e.lane.leave()
	if e.snapshot().Status == Exited {
		s.autoRemove(ctx, e)
	}
}

// callOff ends the wait for a restart; the goroutine that waits settles the state.
func (e *entry) callOff() {
	e.locked(func() {
		if p := e.pending; p != nil {
			p.once.Do(func() { close(p.off) })
		}
	})
}

// autoRemove removes a container that asked for it.
func (s *Service) autoRemove(ctx context.Context, e *entry) {
	if !e.snapshot().Host.AutoRemove {
		return
	}
	err := s.remove(ctx, e, e.id, containertypes.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, errBusyRemoving) {
		s.log.ErrorContext(ctx, "remove container", "container", e.id, "err", err)
	}
}
