package container

import (
	"context"

	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/daemon/logger"
	"gantry/daemon/stream"
)

// heir is a client of a run. At the run's end what the client has not got is kept for it,
// so that neither the shim nor what comes next waits for who reads slowly. All of it is
// guarded by the entry's mu.
type heir struct {
	tail *stream.Tail // nil until the client is connected
	over bool         // the run is
	left bool         // the client has
	came bool         // the inheritance has, before there was a connection
	rest *logger.Rest // it, nil where there is nothing

	gone chan struct{} // if any, closed with came; constant
}

// join notes a client of the run that is there or about to be. It is called under mu.
func (e *entry) join(h *heir) {
	if e.heirs == nil {
		e.heirs = map[*heir]struct{}{}
	}
	e.heirs[h] = struct{}{}
}

// disown forgets a client that leaves, but for its tail.
func (e *entry) disown(h *heir) {
	var rest *logger.Rest
	e.locked(func() {
		delete(e.heirs, h)
		h.left = true
		rest, h.rest = h.rest, nil
	})
	closeRest(rest)
}

func closeRest(r *logger.Rest) {
	if r != nil {
		r.Close() //nolint:errcheck // read only
	}
}

// connected gives the client its connection to the run, as a Tail.
func (e *entry) connected(h *heir, p stream.Process, logged bool) *stream.Tail {
	t := stream.NewTail(p, logged)
	var over, came bool
	var rest *logger.Rest
	e.locked(func() {
		h.tail, over, came = t, h.over, h.came
		rest, h.rest = h.rest, nil
	})
	if over {
		t.Over()
	}
	if came {
		t.Inherit(func(shimwire.Position) (stream.Rest, error) { //nolint:errcheck // opened already
			r := rest
			if rest = nil; r == nil {
				return nil, nil
			}
			return r, nil
		})
		closeRest(rest)
	}
	return t
}

// remains is what a client gets that comes after the end of its run: from where its
// replay ended. came says that the run is over and its shim has gone.
func (e *entry) remains(h *heir, from *logfile.Position) (p stream.Process, came bool) {
	var rest *logger.Rest
	e.locked(func() {
		came = h.came
		if came && from != nil {
			rest, h.rest = h.rest, nil
		}
	})
	if rest == nil {
		return nil, came
	}
	return stream.Remains(rest, *from), came
}

// follow notes a follower of the log of the run that is there, if there is one, until
// stop is called.
func (e *entry) follow(src *logger.Source) (stop func()) {
	h := &heir{gone: make(chan struct{})}
	there := false
	e.locked(func() {
		if there = e.run != nil; there {
			e.join(h)
		}
	})
	if !there {
		return func() {}
	}
	src.Gone = h.gone
	src.Rest = func() (rest *logger.Rest) {
		e.locked(func() { rest, h.rest = h.rest, nil })
		return rest
	}
	return func() { e.disown(h) }
}

func (e *entry) family() (all []*heir) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for h := range e.heirs {
		all = append(all, h)
	}
	return all
}

// runOver tells the clients that the run is over: what its shim holds for them is taken.
func (e *entry) runOver() {
	for _, h := range e.family() {
		var tail *stream.Tail
		e.locked(func() { h.over, tail = true, h.tail })
		if tail != nil {
			tail.Over()
		}
	}
}

// bequeath keeps the rest of the log for the clients that have not got it. It comes when
// the shim has written everything, and before anybody else can.
func (s *Service) bequeath(ctx context.Context, e *entry) {
	e.runOver() // of who has come meanwhile
	for _, h := range e.family() {
		if err := e.bequeath(h); err != nil {
			s.log.WarnContext(ctx, "keep the rest of the log for a client", "container", e.id, "err", err)
		}
	}
}

func (e *entry) bequeath(h *heir) (err error) {
	src, logged := logOf(e.snapshot())
	var tail *stream.Tail
	var rest *logger.Rest
	e.locked(func() { tail = h.tail })
	if tail == nil && logged {
		rest, err = logger.OpenRest(src, logfile.Position{})
	}
	e.locked(func() {
		delete(e.heirs, h)
		if tail = h.tail; tail == nil && !h.left {
			h.came = true
			h.rest, rest = rest, nil
		}
	})
	closeRest(rest)
	if h.gone != nil {
		close(h.gone)
	}
	if tail == nil {
		return err
	}
	tail.Over()
	return tail.Inherit(func(from shimwire.Position) (stream.Rest, error) {
		r, err := logger.OpenRest(src, from)
		if err != nil {
			return nil, err
		}
		return r, nil
	})
}
