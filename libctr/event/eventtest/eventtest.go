// Package eventtest is what an exchange of events must do, in this process or behind
// gRPC.
package eventtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	containerdevents "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/event"
)

// Exchange is what the suite holds.
type Exchange interface {
	event.Publisher
	event.Forwarder
	event.Subscriber
}

// Run runs the suite; open may give the same exchange each time.
func Run(t *testing.T, open func(t *testing.T) Exchange) {
	for name, test := range map[string]func(subject){
		"filters":                 filters,
		"order":                   order,
		"forwarded":               forwarded,
		"every subscriber":        every,
		"a context ends one only": ends,
		"refused":                 refused,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(reqctx.WithNamespace(t.Context(), "one"), time.Minute)
			defer cancel()
			test(subject{t, ctx, open(t)})
		})
	}
}

type subject struct {
	*testing.T
	ctx context.Context
	Exchange
}

func (s subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// exit is an event with fields to filter by.
func exit(id string, status uint32) *containerdevents.TaskExit {
	return &containerdevents.TaskExit{ContainerID: id, ID: id, ExitStatus: status}
}

const mark = "/eventtest/mark"

// hear subscribes and returns when the subscription stands, which is known from a mark.
func (s subject) hear(ctx context.Context, filters ...string) (<-chan *event.Envelope, <-chan error) {
	s.Helper()
	if len(filters) > 0 {
		filters = append(slices.Clone(filters), `topic=="`+mark+`"`)
	}
	events, errs := s.Subscribe(ctx, filters...)
	for {
		s.must(s.Publish(s.ctx, mark, exit("begin", 0)))
		select {
		case <-events:
			return events, errs
		case err := <-errs:
			s.Fatalf("subscribe %q: %v", filters, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// heard lists the ids of the exits up to a last mark.
func (s subject) heard(events <-chan *event.Envelope) (ids []string) {
	s.Helper()
	s.must(s.Publish(s.ctx, mark, exit("end", 0)))
	for {
		select {
		case e, open := <-events:
			if !open {
				s.Fatal("the subscription has ended")
			}
			v, err := typeurl.UnmarshalAny(e.Event)
			s.must(err)
			switch id := v.(*containerdevents.TaskExit).ContainerID; {
			case e.Topic != mark:
				ids = append(ids, id)
			case id == "end":
				return ids
			}
		case <-s.ctx.Done():
			s.Fatal("the last event does not come")
		}
	}
}

func filters(s subject) {
	two := reqctx.WithNamespace(s.ctx, "two")
	for _, tc := range []struct {
		filters, want []string
	}{
		{nil, []string{"a", "b", "c"}},
		{[]string{`topic=="/tasks/exit"`}, []string{"a", "c"}},
		{[]string{`topic~=|^/tasks/|`}, []string{"a", "c"}},
		{[]string{"namespace==two"}, []string{"c"}},
		{[]string{"namespace==one,topic==/tasks/exit"}, nil}, // a slash begins a literal, of regular expressions only
		{[]string{"event.container_id==b"}, []string{"b"}},
		{[]string{"event.container_id==a", "event.container_id==c"}, []string{"a", "c"}},
		{[]string{"event.container_id!=a,namespace==one"}, []string{"b"}},
		{[]string{"event.nope"}, nil},
		{[]string{"nope!=x"}, []string{"a", "b", "c"}},
	} {
		ctx, cancel := context.WithCancel(s.ctx)
		if _, errs := s.Subscribe(ctx, tc.filters...); refusedAtOnce(errs) {
			if tc.want != nil {
				s.Errorf("%q is refused", tc.filters)
			}
			cancel()
			continue
		}
		events, _ := s.hear(ctx, tc.filters...)
		s.must(s.Publish(s.ctx, "/tasks/exit", exit("a", 1)))
		s.must(s.Publish(s.ctx, "/other/exit", exit("b", 2)))
		s.must(s.Publish(two, "/tasks/exit", exit("c", 3)))
		if got := s.heard(events); !slices.Equal(got, tc.want) {
			s.Errorf("%q: %v, want %v", tc.filters, got, tc.want)
		}
		cancel()
	}
}

// refusedAtOnce looks for the error of a filter that does not parse.
func refusedAtOnce(errs <-chan error) bool {
	select {
	case <-errs:
		return true
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

func order(s subject) {
	events, _ := s.hear(s.ctx, "topic~=order")
	var want []string
	for n := range 300 {
		id := fmt.Sprint(n)
		want = append(want, id)
		s.must(s.Publish(s.ctx, "/order/exit", exit(id, 0)))
	}
	if got := s.heard(events); !slices.Equal(got, want) {
		s.Errorf("got %v", got)
	}
}

func forwarded(s subject) {
	events, _ := s.hear(s.ctx, "namespace==far")
	a, err := typeurl.MarshalAny(exit("x", 9))
	s.must(err)
	at := time.Date(2020, 2, 3, 4, 5, 6, 789, time.UTC)
	s.must(s.Forward(s.ctx, &event.Envelope{Timestamp: at, Namespace: "far", Topic: "/tasks/exit", Event: a}))
	for e := range events {
		if e.Topic == mark {
			continue
		}
		if !e.Timestamp.Equal(at) || e.Namespace != "far" || e.Topic != "/tasks/exit" || e.Event.GetTypeUrl() != a.GetTypeUrl() ||
			string(e.Event.GetValue()) != string(a.GetValue()) {
			s.Errorf("got %+v", e)
		}
		return
	}
	s.Error("not heard")
}

func every(s subject) {
	one, _ := s.hear(s.ctx, "topic==\"/every/exit\"")
	two, _ := s.hear(s.ctx, "topic==\"/every/exit\"")
	before := time.Now().Add(-time.Minute)
	s.must(s.Publish(s.ctx, "/every/exit", exit("x", 0)))
	for _, events := range []<-chan *event.Envelope{one, two} {
		for e := range events {
			if e.Topic == mark {
				continue
			}
			if e.Namespace != "one" || e.Timestamp.Before(before) {
				s.Errorf("got %+v", e)
			}
			break
		}
	}
}

func ends(s subject) {
	ctx, cancel := context.WithCancel(s.ctx)
	ended, errs := s.hear(ctx, "topic==\"/ends/exit\"")
	stays, _ := s.hear(s.ctx, "topic==\"/ends/exit\"")
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		s.Errorf("ended with %v", err)
	}
	for range ended { // what was on its way
	}
	s.must(s.Publish(s.ctx, "/ends/exit", exit("x", 0)))
	if got := s.heard(stays); !slices.Equal(got, []string{"x"}) {
		s.Errorf("the other one: %v", got)
	}
}

func refused(s subject) {
	a, err := typeurl.MarshalAny(exit("x", 0))
	s.must(err)
	for name, tc := range map[string]struct{ err, want error }{
		"bad namespace":     {s.Publish(reqctx.WithNamespace(s.ctx, "a/b"), "/a", exit("x", 0)), errdefs.ErrInvalidArgument},
		"no topic":          {s.Publish(s.ctx, "", exit("x", 0)), errdefs.ErrInvalidArgument},
		"topic is the root": {s.Publish(s.ctx, "/", exit("x", 0)), errdefs.ErrInvalidArgument},
		"relative topic":    {s.Publish(s.ctx, "a", exit("x", 0)), errdefs.ErrInvalidArgument},
		"empty component":   {s.Publish(s.ctx, "/a//b", exit("x", 0)), errdefs.ErrInvalidArgument},
		"forward nowhere":   {s.Forward(s.ctx, &event.Envelope{Timestamp: time.Now(), Topic: "/a", Event: a}), errdefs.ErrInvalidArgument},
		"forward no topic":  {s.Forward(s.ctx, &event.Envelope{Timestamp: time.Now(), Namespace: "a", Event: a}), errdefs.ErrInvalidArgument},
	} {
		if !errors.Is(tc.err, tc.want) {
			s.Errorf("%s: %v, want %v", name, tc.err, tc.want)
		}
	}
	if _, errs := s.Subscribe(s.ctx, "(("); <-errs == nil {
		s.Error("a bad filter is taken")
	}
}
