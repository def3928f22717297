// Package event is the core's exchange: what publishes and what subscribes meet
// here. It keeps nothing; who subscribes late has missed what was before.
//
// Lock order: Exchange.mu before subscription.mu; neither is held while a filter
// runs or a reader is waited for.
package event

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/event"
	"gantry/libctr/filter"
)

// queueLength is how many events a subscriber may lag behind.
const queueLength = 4096

// Exchange passes events from publishers to subscribers. Publishing never waits
// for a subscriber. Safe for concurrent use.
type Exchange struct {
	mu   sync.RWMutex
	subs map[*subscription]struct{} // guarded by mu
}

var (
	_ event.Publisher  = (*Exchange)(nil)
	_ event.Forwarder  = (*Exchange)(nil)
	_ event.Subscriber = (*Exchange)(nil)
)

// NewExchange returns an exchange without subscribers.
func NewExchange() *Exchange { return &Exchange{subs: map[*subscription]struct{}{}} }

// Publish sends ev, a message of the events API or an Any of one, to the
// subscribers of today, in the namespace of ctx.
func (x *Exchange) Publish(ctx context.Context, topic string, ev any) error {
	if reqctx.Namespace(ctx) == "" {
		return errdefs.FailedPrecondition("failed publishing event: namespace is required: failed precondition")
	}
	a, err := marshal(ev)
	if err != nil {
		return errdefs.InvalidArgument("event of topic %s: %w: invalid argument", topic, err)
	}
	return x.send(&event.Envelope{
		Timestamp: time.Now().UTC(), Namespace: reqctx.Namespace(ctx), Topic: topic, Event: a})
}

func marshal(ev any) (typeurl.Any, error) {
	if ev == nil {
		return nil, errors.New("no event")
	}
	return typeurl.MarshalAny(ev)
}

// Forward sends an event that has its envelope already.
func (x *Exchange) Forward(_ context.Context, e *event.Envelope) error {
	if e == nil {
		return errdefs.InvalidArgument("no envelope to forward: invalid argument")
	}
	return x.send(e)
}

// Subscribe yields events that one of the filters matches. The fields are
// namespace, topic and event.FIELD of the event itself.
func (x *Exchange) Subscribe(ctx context.Context, filters ...string) (<-chan *event.Envelope, <-chan error) {
	f, err := filter.Parse(filters...)
	if err != nil {
		return failed(fmt.Errorf("failed parsing subscription filters: %w", err))
	}
	s := newSubscription(f)
	x.mu.Lock()
	x.subs[s] = struct{}{}
	x.mu.Unlock()
	go func() { // ends with ctx or with an overflow
		why := s.wait(ctx)
		x.mu.Lock()
		delete(x.subs, s)
		x.mu.Unlock()
		s.end(why)
	}()
	return s.events, s.errs
}

func failed(err error) (<-chan *event.Envelope, <-chan error) {
	events, errs := make(chan *event.Envelope), make(chan error, 1)
	errs <- err
	close(errs)
	close(events)
	return events, errs
}

func (x *Exchange) send(e *event.Envelope) error {
	if err := validate(e); err != nil {
		return err
	}
	lookup := lazyFields(e)
	for _, s := range x.subscriptions() {
		if s.filter.Match(lookup) {
			s.offer(e)
		}
	}
	return nil
}

func (x *Exchange) subscriptions() []*subscription {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*subscription, 0, len(x.subs))
	for s := range x.subs {
		out = append(out, s)
	}
	return out
}
