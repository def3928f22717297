package metadata

import (
	"context"
	"sync"
	"time"
)

// Schedule says when the collector runs by itself; its fields are containerd's
// io.containerd.gc.v1.scheduler.
type Schedule struct {
	// PauseThreshold is the part of the time that collections may take, 0 to 0.5: the
	// longer they take, the further they are apart. 0 keeps a second between them.
	PauseThreshold float64
	// DeletionThreshold is a number of deletions that brings a collection on at once;
	// with 0, and below it, they wait for the next that may run.
	DeletionThreshold int
	// MutationThreshold is how many write transactions make a collection due where
	// nothing was deleted; 0 is no number.
	MutationThreshold int
	// ScheduleDelay is between what brings a collection on and the collection.
	ScheduleDelay time.Duration
	// StartupDelay is before the first, which finds what a crash has left.
	StartupDelay time.Duration
}

// DefaultSchedule is containerd's.
func DefaultSchedule() Schedule {
	return Schedule{PauseThreshold: 0.02, MutationThreshold: 100, StartupDelay: 100 * time.Millisecond}
}

func (s Schedule) bounded() Schedule {
	s.PauseThreshold = min(max(s.PauseThreshold, 0), 0.5)
	s.DeletionThreshold = max(s.DeletionThreshold, 0)
	s.MutationThreshold = max(s.MutationThreshold, 0)
	s.ScheduleDelay = max(s.ScheduleDelay, 0)
	s.StartupDelay = max(s.StartupDelay, 0)
	return s
}

// shortestRun is what a collection counts for at least.
const shortestRun = 5 * time.Millisecond

// pace is when the next collection is due, as a value: it knows no clock.
type pace struct {
	Schedule
	deletions, mutations int       // since the last collection began
	earliest             time.Time // what is not pressing waits for it
	due                  time.Time // zero for when something changes
	spent                time.Duration
	runs                 int
}

func newPace(s Schedule, now time.Time) pace {
	p := pace{Schedule: s.bounded()}
	p.earliest = now.Add(p.StartupDelay)
	p.due = p.earliest
	return p
}

// changed notes a write transaction or a deletion; sooner says that due has moved.
func (p *pace) changed(now time.Time, deletion bool) (sooner bool) {
	if deletion {
		p.deletions++
	} else {
		p.mutations++
	}
	var at time.Time
	switch {
	case p.DeletionThreshold > 0 && p.deletions >= p.DeletionThreshold:
		at = now.Add(p.ScheduleDelay)
	case p.deletions > 0, p.MutationThreshold > 0 && p.mutations >= p.MutationThreshold:
		at = latest(p.earliest, now.Add(p.ScheduleDelay))
	default:
		return false
	}
	if !p.due.IsZero() && !at.Before(p.due) {
		return false
	}
	p.due = at
	return true
}

// begin is of a collection: what has changed is its matter now.
func (p *pace) begin() { p.deletions, p.mutations, p.due = 0, 0, time.Time{} }

// end is of a collection that took that long. Another has something to do once expiry is
// over, zero for never.
func (p *pace) end(now time.Time, took time.Duration, failed bool, expiry time.Time) {
	p.spent += took
	p.runs++
	p.earliest = now.Add(p.interval())
	switch {
	case failed:
		p.due = p.earliest.Add(time.Second)
	case p.deletions > 0:
		p.due = p.earliest
	case !expiry.IsZero() && p.due.IsZero():
		p.due = latest(p.earliest, expiry)
	}
}

// interval is how far collections are apart.
func (p *pace) interval() time.Duration {
	if p.PauseThreshold == 0 || p.runs == 0 {
		return time.Second
	}
	mean := float64(max(p.spent/time.Duration(p.runs), shortestRun))
	return time.Duration(mean/p.PauseThreshold - mean)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// scheduler is the pace and who waits for it.
type scheduler struct {
	turn chan struct{} // one token: who has it collects
	wake chan struct{} // tells Run that due has moved

	mu   sync.Mutex
	pace pace // guarded by mu
}

func (s *scheduler) init() {
	s.turn, s.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	s.start(DefaultSchedule())
}

func (s *scheduler) start(with Schedule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace = newPace(with, time.Now())
}

// mutated and deleted tell Run; they never block.
func (s *scheduler) mutated() { s.changed(false) }
func (s *scheduler) deleted() { s.changed(true) }

func (s *scheduler) changed(deletion bool) {
	s.mu.Lock()
	sooner := s.pace.changed(time.Now(), deletion)
	s.mu.Unlock()
	if !sooner {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (s *scheduler) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace.begin()
}

func (s *scheduler) end(took time.Duration, err error, expiry time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace.end(time.Now(), took, err != nil, expiry)
}

// wait is how long until a collection is due.
func (s *scheduler) wait() (d time.Duration, scheduled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.pace.due), !s.pace.due.IsZero()
}

// Run collects when the schedule says so, until ctx ends: once at the start, then after
// changes, and when what expires does.
func (db *DB) Run(ctx context.Context, schedule Schedule) {
	db.collector.start(schedule)
	for {
		var due <-chan time.Time
		if d, scheduled := db.collector.wait(); scheduled {
			due = time.After(d)
		}
		select {
		case <-ctx.Done():
			return
		case <-db.collector.wake:
		case <-due:
			stats, err := db.Collect(ctx)
			if err != nil && ctx.Err() == nil {
				db.log.WarnContext(ctx, "collect garbage", "err", err)
			} else if stats.Removed > 0 {
				db.log.DebugContext(ctx, "collected garbage", "removed", stats.Removed, "elapsed", stats.Elapsed)
			}
		}
	}
}
