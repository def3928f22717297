package event

import (
	"context"
	"math"
	"sort"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Subscribe calls open once it listens, and then emit for each event that f lets
// through: from since on, if since or until is given, and then live ones until ctx
// ends, the service closes, or until has come. An until in the past ends with the last
// event up to it. It blocks; an error of open or emit ends it and is returned. A
// filter that is not known is an InvalidArgument, told before open.
func (s *Service) Subscribe(ctx context.Context, since, until time.Time, f filters.Args, open func() error, emit func(events.Message) error) error {
	if err := checkFilter(f); err != nil {
		return err
	}
	s.listeners.Add(1)
	defer s.listeners.Add(-1)
	sub := &subscription{s: s, filter: f, until: until, emit: emit}
	live := s.from(0)
	if err := open(); err != nil {
		return err
	}
	if !since.IsZero() || !until.IsZero() {
		if err := sub.past(since, live); err != nil || sub.over {
			return err
		}
	}
	if len(live.msgs) > 0 {
		sub.last = max(sub.last, live.msgs[len(live.msgs)-1].TimeNano)
	}
	if !until.IsZero() && !until.After(time.Now()) {
		return nil
	}
	return sub.live(ctx, live.next)
}

// subscription is one call of Subscribe; it belongs to that goroutine.
type subscription struct {
	s      *Service
	filter filters.Args
	until  time.Time
	emit   func(events.Message) error
	last   int64 // time stamp of the last event looked at
	over   bool  // an event after until has been seen
}

// nanos is t as a time stamp, the nearest one for a time that none can tell.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	}
	return t.UnixNano()
}

// past hands out what was there at the beginning: the log's part first.
func (sub *subscription) past(since time.Time, inMemory batch) error {
	from := int64(0)
	if !since.IsZero() {
		from = nanos(since)
	}
	if err := sub.fromDisk(from, inMemory.msgs); err != nil || sub.over {
		return err
	}
	msgs := inMemory.msgs
	return sub.handOut(msgs[sort.Search(len(msgs), func(i int) bool { return msgs[i].TimeNano >= from }):])
}

// fromDisk hands out the events of the log from a time stamp on that are older than
// all of newer.
func (sub *subscription) fromDisk(from int64, newer []message) error {
	to := int64(math.MaxInt64)
	if len(newer) > 0 {
		to = newer[0].TimeNano
	}
	if from >= to {
		return nil
	}
	return sub.s.disk.read(sub.between(from, to))
}

// catchUp hands out what has left the memory since the last event that was looked at.
func (sub *subscription) catchUp(newer []message) error {
	to := int64(math.MaxInt64)
	if len(newer) > 0 {
		to = newer[0].TimeNano
	}
	return sub.s.disk.readAfter(sub.last, sub.between(sub.last+1, to))
}

// between hands out the events from a time stamp on to before another.
func (sub *subscription) between(from, to int64) func(events.Message) error {
	return func(m events.Message) error {
		if m.TimeNano < from || m.TimeNano >= to || sub.over {
			return nil
		}
		return sub.handOut([]message{{Message: m}})
	}
}

func (sub *subscription) live(ctx context.Context, next uint64) error {
	var timeout <-chan time.Time
	if !sub.until.IsZero() {
		t := time.NewTimer(time.Until(sub.until))
		defer t.Stop()
		timeout = t.C
	}
	for {
		b := sub.s.from(next)
		if b.lost {
			if err := sub.catchUp(b.msgs); err != nil {
				return err
			}
		}
		if err := sub.handOut(b.msgs); err != nil || sub.over {
			return err
		}
		next = b.next
		select {
		case <-b.more:
		case <-timeout:
			return sub.handOut(sub.s.from(next).msgs)
		case <-ctx.Done():
			return nil
		case <-sub.s.stop:
			return nil
		}
	}
}

func (sub *subscription) handOut(msgs []message) error {
	for _, m := range msgs {
		if !sub.until.IsZero() && m.TimeNano > nanos(sub.until) {
			sub.over = true
			return nil
		}
		sub.last = m.TimeNano
		if !Match(sub.filter, m.Message) {
			continue
		}
		if err := sub.emit(m.Message); err != nil {
			return err
		}
	}
	return nil
}
