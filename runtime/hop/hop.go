// Package hop notes what a call did, and when, for one who wants to see it: a
// Trace travels in the context of the call, as net/http/httptrace has it. Without
// one nothing is noted and nothing is paid.
package hop

import (
	"context"
	"sync"
	"time"
)

// Hop is something that was done. Times are the wall clock's: it is the only
// clock that a time namespace cannot shift.
type Hop struct {
	Name       string
	Process    string // "" is the caller's own, else what it is: "init"
	Pid        int    // of Process; 0 is the caller's own
	Start, End time.Time
	Parent     int               // index of the hop that this one is part of; -1 is none
	Attributes map[string]string // further facts; may be nil
}

// Max bounds the hops of one Trace; what comes later is counted, not kept.
const Max = 2048

// Trace collects hops. Safe for concurrent use; the zero value is ready.
type Trace struct {
	mu   sync.Mutex
	hops []Hop // guarded by mu
	lost int   // guarded by mu
}

// Hops returns what was noted, parents before their parts, and how many hops did
// not fit.
func (t *Trace) Hops() (list []Hop, lost int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Hop(nil), t.hops...), t.lost
}

// add notes h and returns its index, -1 when there is no room.
func (t *Trace) add(h Hop) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.hops) >= Max {
		t.lost++
		return -1
	}
	t.hops = append(t.hops, h)
	return len(t.hops) - 1
}

func (t *Trace) end(i int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i >= 0 {
		t.hops[i].End = at
	}
}

type key struct{}

// place is where in a trace a context is.
type place struct {
	trace  *Trace
	parent int
}

// With returns a context whose calls note their hops in t.
func With(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, key{}, place{t, -1})
}

// Wanted says whether hops of ctx are noted.
func Wanted(ctx context.Context) bool {
	_, ok := ctx.Value(key{}).(place)
	return ok
}

// Begin notes the begin of a hop and returns the context of its parts, and the
// function that ends it.
func Begin(ctx context.Context, name string) (context.Context, func()) {
	p, ok := ctx.Value(key{}).(place)
	if !ok {
		return ctx, func() {}
	}
	now := time.Now()
	i := p.trace.add(Hop{Name: name, Start: now, End: now, Parent: p.parent})
	if i < 0 {
		return ctx, func() {}
	}
	return context.WithValue(ctx, key{}, place{p.trace, i}), func() { p.trace.end(i, time.Now()) }
}

// Done notes a hop that is over; its Parent is set here. It returns the context of
// the hop's parts.
func Done(ctx context.Context, h Hop) context.Context {
	p, ok := ctx.Value(key{}).(place)
	if !ok {
		return ctx
	}
	h.Parent = p.parent
	i := p.trace.add(h)
	if i < 0 {
		return ctx
	}
	return context.WithValue(ctx, key{}, place{p.trace, i})
}
