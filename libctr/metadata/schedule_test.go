package metadata

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	base := time.Unix(1000, 0)
	never := time.Duration(-1)
	def := DefaultSchedule()
	eager := def
	eager.DeletionThreshold, eager.ScheduleDelay = 3, 10*ms
	idle := Schedule{MutationThreshold: -1, PauseThreshold: 7, StartupDelay: -time.Second}
	first := func(p *pace) { p.begin(); p.end(base, 0, false, time.Time{}) } // at the base
	change := func(p *pace, n int, deletion bool) {
		for range n {
			p.changed(base.Add(20*ms), deletion)
		}
	}
	for name, tc := range map[string]struct {
		with Schedule
		do   func(p *pace)
		due  time.Duration // after the base
	}{
		"the first":                     {def, func(*pace) {}, 100 * ms},
		"the first at once":             {idle, func(*pace) {}, 0},
		"nothing more":                  {def, first, never},
		"a deletion waits its turn":     {def, func(p *pace) { first(p); change(p, 1, true) }, 245 * ms},
		"99 writes are nothing":         {def, func(p *pace) { first(p); change(p, 99, false) }, never},
		"100 writes are something":      {def, func(p *pace) { first(p); change(p, 100, false) }, 245 * ms},
		"no number of writes counts":    {idle, func(p *pace) { first(p); change(p, 1000, false) }, never},
		"half the time at most":         {idle, func(p *pace) { first(p); change(p, 1, true) }, 20 * ms},
		"below the deletion threshold":  {eager, func(p *pace) { first(p); change(p, 2, true) }, 245 * ms},
		"at the deletion threshold":     {eager, func(p *pace) { first(p); change(p, 3, true) }, 30 * ms},
		"before the first collection":   {eager, func(p *pace) { change(p, 3, true) }, 30 * ms},
		"deletions make the first none": {def, func(p *pace) { change(p, 3, true) }, 100 * ms},
		"long collections are further apart": {def, func(p *pace) {
			p.begin()
			p.end(base, 100*ms, false, time.Time{})
			change(p, 1, true)
		}, 4900 * ms},
		"a failed one is repeated": {def, func(p *pace) { p.begin(); p.end(base, 0, true, time.Time{}) }, 1245 * ms},
		"deleted meanwhile": {def, func(p *pace) {
			p.begin()
			change(p, 1, true)
			p.end(base, 0, false, time.Time{})
		}, 245 * ms},
		"an expiry":                {def, func(p *pace) { p.begin(); p.end(base, 0, false, base.Add(time.Hour)) }, time.Hour},
		"an expiry that is near":   {def, func(p *pace) { p.begin(); p.end(base, 0, false, base.Add(ms)) }, 245 * ms},
		"a deletion before expiry": {def, func(p *pace) { p.begin(); p.end(base, 0, false, base.Add(time.Hour)); change(p, 1, true) }, 245 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPace(tc.with, base)
			tc.do(&p)
			got := never
			if !p.due.IsZero() {
				got = p.due.Sub(base)
			}
			if got != tc.due {
				t.Errorf("due after %v, want %v", got, tc.due)
			}
		})
	}
}

// TestRunSleeps: without changes the scheduler does nothing, and one change more or less
// does not wake it.
func TestRunSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s scheduler
		s.init()
		s.begin()
		s.end(0, nil, time.Time{})
		for range 99 {
			s.mutated()
		}
		if d, scheduled := s.wait(); scheduled || len(s.wake) != 0 {
			t.Errorf("a collection in %v, woken %d", d, len(s.wake))
		}
		s.deleted()
		if d, scheduled := s.wait(); !scheduled || d != 245*time.Millisecond || len(s.wake) != 1 {
			t.Errorf("a collection in %v, %v, woken %d", d, scheduled, len(s.wake))
		}
	})
}
