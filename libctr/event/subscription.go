package event

import (
	"context"
	"sync"

	"gantry/api/errdefs"
	"gantry/libctr/core/event"
	"gantry/libctr/filter"
)

// subscription is one reader's queue. Events are offered until it overflows or
// its context ends; then both channels are closed, once.
type subscription struct {
	filter   filter.Filter
	events   chan *event.Envelope
	errs     chan error
	overflow chan struct{} // closed by offer when the queue is full

	mu     sync.Mutex
	closed bool // guarded by mu; no sends on events afterwards
}

func newSubscription(f filter.Filter) *subscription {
	return &subscription{
		filter:   f,
		events:   make(chan *event.Envelope, queueLength),
		errs:     make(chan error, 1),
		overflow: make(chan struct{}),
	}
}

// offer queues e, or ends the subscription when there is no room. The send under
// the lock never waits.
func (s *subscription) offer(e *event.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	select {
	case s.events <- e:
	default:
		s.closed = true
		close(s.overflow)
	}
}

// wait returns why the subscription ends.
func (s *subscription) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.overflow:
		return errdefs.ResourceExhausted("subscriber is more than %d events behind", queueLength)
	}
}

func (s *subscription) end(why error) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.errs <- why
	close(s.errs)
	close(s.events)
}
