package container

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/daemon/restart"
	"gantry/libctr/core/task"
)

// entry is a container in memory.
type entry struct {
	id   string
	lane lane // one life-cycle operation at a time; nobody waits for an exit in it

	freezes int // commits that hold it paused; for who is in the lane

	writes lane // one copy into the files at a time; entered before the lane

	view   atomic.Pointer[Snapshot]
	saving sync.Mutex   // held while the view is written, so that no older one comes last
	kills  sync.RWMutex // read-held while a signal is sent and told, written while an exit is

	removing atomic.Bool // a removal has begun; set before it waits for the lane

	mu          sync.Mutex
	stopWaiters []chan containertypes.WaitResponse // guarded by mu; woken by an exit or the removal
	goneWaiters []chan containertypes.WaitResponse // guarded by mu; woken by the removal
	gone        bool                               // guarded by mu; removed
	parked      map[*parked]struct{}               // guarded by mu; clients that wait for a start
	heirs       map[*heir]struct{}                 // guarded by mu; clients of the run, nil when there were none
	run         *run                               // guarded by mu; the present task, nil when down
	pending     *pending                           // guarded by mu; a restart that waits
	attempt     restart.Attempt                    // guarded by mu
	noRestart   bool                               // guarded by mu; a user's signal: the policy is off until the next start
	writing     *writing                           // guarded by mu; the copy into the files, nil when none
	breakOff    context.CancelCauseFunc            // guarded by mu; ends the start under way, nil when there is none
	byUser      int                                // guarded by mu; users' restarts under way: the exit must not auto-remove
}

func newEntry(s Snapshot) *entry {
	e := &entry{id: s.ID, lane: newLane(), writes: newLane(), parked: map[*parked]struct{}{}}
	e.attempt = restart.Attempt{Count: s.RestartCount, Wait: s.RestartWait}
	e.view.Store(&s)
	return e
}

// snapshot never blocks.
func (e *entry) snapshot() *Snapshot { return e.view.Load() }

// change replaces the snapshot by f of a copy and returns the new one.
func (e *entry) change(f func(*Snapshot)) *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := *e.view.Load()
	f(&next)
	e.view.Store(&next)
	return &next
}

// locked runs f under the memory lock.
func (e *entry) locked(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// run is one task of a container, from before its start to after its exit.
type run struct {
	done  chan struct{}  // closed when the exit has been committed
	began time.Time      // before the task; the zero time is not known
	told  chan task.Exit // has room for one: how the core's events say that it has ended; nil where they are not heeded
}

func (s *Service) newRun(began time.Time) *run {
	r := &run{done: make(chan struct{}), began: began}
	if s.cfg.HeedExits {
		r.told = make(chan task.Exit, 1)
	}
	return r
}

// lane lets one operation at a time through.
type lane chan struct{}

func newLane() lane { return make(lane, 1) }

// enter waits for the lane; the caller leaves it.
func (l lane) enter(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lane) leave() { <-l }
