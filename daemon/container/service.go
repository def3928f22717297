// Package container is Docker's containers: their records, their life and what
// clients ask of them. What runs is a task of the core; an image, volumes and a network
// come from their own services.
//
// Locks, in this order: an entry's lane (one life-cycle operation at a time; waits with
// a context), its kills (the order of a signal and the exit it causes; held across the
// core's answer to a kill, never while entering a lane), its saving mutex (the order of
// writes to disk; held across a short one), the service's mu, an entry's mu; the last
// two cover memory only. Reads take an immutable snapshot and no lock at all. Nobody
// waits for an exit while in a lane, since the exit is committed in it.
//
// Order of a container's events: create, start, die, and after die whatever it was
// killed for (stop, restart, destroy).
package container

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gantry/api/database"
	"gantry/daemon/logger/forward"
	"gantry/daemon/name"
	"gantry/daemon/source"
	"gantry/daemon/stats"
)

// Service implements router/container.Backend. Safe for concurrent use.
type Service struct {
	Deps
	cfg      Config // but for what is live
	live     atomic.Pointer[live]
	store    *store
	index    *name.Index
	log      *slog.Logger
	stats    *stats.Collector
	host     stats.Machine
	sources  *source.Store
	forwards *forward.Service

	life    context.Context // of the daemon; ends what outlives requests
	end     context.CancelFunc
	work    sync.WaitGroup
	closing atomic.Bool // the daemon goes down: policies are off
	pruning atomic.Bool

	mu      sync.RWMutex
	entries map[string]*entry        // guarded by mu; by id
	dirty   map[string]bool          // guarded by mu; ids whose state is not durable yet; true: nor in the run-time store
	onGone  []func(id string)        // guarded by mu
	onDown  []func(id string)        // guarded by mu
	execs   func(id string) []string // guarded by mu; the ids of a container's running execs
	checks  Checks                   // guarded by mu; nil checks nothing

	unreadable map[string]error // by id; containers whose record is no use; constant once New has returned

	kick chan struct{} // asks for a flush
}

// New loads the containers; nothing is started or looked after before Restore.
// durable syncs, runtime is a database under the exec-root without syncs; both stay
// the caller's.
func New(cfg Config, d Deps, durable, runtime database.Records, log *slog.Logger) (*Service, error) {
	cfg = cfg.withDefaults()
	d.setDefaults()
	st, err := openStore(durable, runtime, cfg.BootID)
	if err != nil {
		return nil, err
	}
	s := &Service{
		Deps: d, cfg: cfg, store: st, index: name.NewIndex(), log: log,
		entries: map[string]*entry{}, dirty: map[string]bool{}, kick: make(chan struct{}, 1),
		sources: source.New(cfg.Sources), forwards: forward.New(log),
	}
	s.Reconfigure(cfg)
	s.life, s.end = context.WithCancel(context.Background())
	s.stats = stats.NewCollector(s.life, s.watched)
	return s, s.loadAll()
}

// closeTimeout is how long Close waits for starts and removals to be broken off.
const closeTimeout = 15 * time.Second

// Close ends the service's own work; containers go on. States are durable afterwards.
func (s *Service) Close() error {
	s.closing.Store(true)
	s.end()
	ended := make(chan struct{})
	go func() { defer close(ended); s.work.Wait() }() // ends with the process at the latest
	select {
	case <-ended:
	case <-time.After(closeTimeout): // what hangs is put right by the next start
		s.log.Warn("containers' work has not ended", "after", closeTimeout)
	}
	s.forwards.Close()
	return s.flush()
}

// OnRemove registers f to be called with the id of each container that has gone.
func (s *Service) OnRemove(f func(id string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onGone = append(s.onGone, f)
}

// OnExit registers f to be called with the id of each container whose run has ended.
func (s *Service) OnExit(f func(id string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDown = append(s.onDown, f)
}

// SetExecs says how to find the running execs of a container.
func (s *Service) SetExecs(f func(id string) []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.execs = f
}

func (s *Service) execIDs(id string) []string {
	s.mu.RLock()
	f := s.execs
	s.mu.RUnlock()
	if f == nil {
		return nil
	}
	return f(id)
}

func (s *Service) exited(id string) {
	s.mu.RLock()
	hooks := s.onDown
	s.mu.RUnlock()
	for _, f := range hooks {
		f(id)
	}
}

func (s *Service) find(ref string) (*entry, error) {
	id, err := s.index.Find(ref)
	if err != nil {
		return nil, err
	}
	if e := s.entry(id); e != nil {
		return e, nil
	}
	return nil, errNotFound(ref)
}

func (s *Service) entry(id string) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.entries[id]
}

// all returns the entries in no order.
func (s *Service) all() []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.entries))
}

func (s *Service) add(e *entry) {
	s.mu.Lock()
	s.entries[e.id] = e
	s.mu.Unlock()
	s.index.Add(e.id)
}

func (s *Service) drop(e *entry) {
	s.mu.Lock()
	delete(s.entries, e.id)
	delete(s.dirty, e.id)
	hooks := s.onGone
	s.mu.Unlock()
	s.index.Remove(e.id)
	s.index.Release(e.snapshot().Name, e.id)
	s.releaseLinks(e.snapshot().Name, e.snapshot().Links)
	s.forgetLinked(e.id)
	for _, f := range hooks {
		f(e.id)
	}
}

// update changes the state and saves it unsynced. What can't be saved now is saved with
// the next flush that can.
func (s *Service) update(ctx context.Context, e *entry, f func(*Snapshot)) *Snapshot {
	snap := e.change(f)
	err := s.save(e)
	if err != nil {
		s.log.ErrorContext(ctx, "save container state", "container", e.id, "err", err)
	}
	s.mark(e, err != nil)
	return snap
}

// mark has the state of e flushed.
func (s *Service) mark(e *entry, unsaved bool) {
	s.mu.Lock()
	if s.entries[e.id] == e {
		s.dirty[e.id] = s.dirty[e.id] || unsaved
	}
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// commit changes record or state and saves both durably; on failure nothing changes.
func (s *Service) commit(e *entry, f func(*Snapshot)) error {
	old := e.snapshot()
	e.change(f)
	e.saving.Lock()
	defer e.saving.Unlock()
	if err := s.store.put(e.snapshot()); err != nil {
		e.change(func(n *Snapshot) { n.Record = old.Record })
		return err
	}
	return nil
}

// flushEvery bounds what a power cut loses.
const flushEvery = time.Second

// flusher makes changed states durable until the daemon ends. What a full disk refuses
// it tries again.
func (s *Service) flusher() {
	failing := false
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kick:
		}
		select {
		case <-s.life.Done():
			return // Close flushes
		case <-time.After(flushEvery):
		}
		err := s.flush()
		switch {
		case err != nil && !failing:
			s.log.Error("flush container states, to be tried again", "err", err)
		case err == nil && failing:
			s.log.Info("container states are flushed again")
		}
		failing = err != nil
	}
}

// flush makes changed states durable; what fails stays marked.
func (s *Service) flush() error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]bool{}
	var all []*Snapshot
	var again []*entry
	for id := range dirty {
		if e := s.entries[id]; e != nil {
			all, again = append(all, e.snapshot()), append(again, e)
		}
	}
	s.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	var errs []error
	for _, e := range again {
		if dirty[e.id] {
			err := s.save(e)
			dirty[e.id] = err != nil
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.store.flush(all))
	err := errors.Join(errs...)
	if err != nil {
		for _, e := range again {
			s.mark(e, dirty[e.id])
		}
	}
	return err
}

// save writes the present state of e unsynced.
func (s *Service) save(e *entry) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	return s.store.setState(e.snapshot())
}

// spawn runs f until it returns; Close waits for it. f ends with s.life.
func (s *Service) spawn(f func()) { s.work.Go(f) }
