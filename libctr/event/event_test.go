package event_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	coreevent "gantry/libctr/core/event"
	"gantry/libctr/event"
)

func inNamespace(ns string) context.Context {
	return reqctx.WithNamespace(context.Background(), ns)
}

func TestFilters(t *testing.T) {
	for _, tc := range []struct {
		name    string
		filters []string
		want    []string // container ids seen
	}{
		{"none is all", nil, []string{"a", "b", "c"}},
		{"topic", []string{`topic=="/tasks/start"`}, []string{"a", "c"}},
		{"topic pattern", []string{`topic~="^/tasks/"`}, []string{"a", "b", "c"}},
		{"namespace", []string{`namespace==other`}, []string{"c"}},
		{"event field", []string{`event.container_id==b`}, []string{"b"}},
		{"any of several", []string{`event.container_id==b`, `namespace==other`}, []string{"b", "c"}},
		{"nothing fits", []string{`event.nope==x`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := event.NewExchange()
				ctx, cancel := context.WithCancel(context.Background())
				events, errs := x.Subscribe(ctx, tc.filters...)
				for _, err := range []error{
					x.Publish(inNamespace("moby"), "/tasks/start", &eventtypes.TaskStart{ContainerID: "a"}),
					x.Publish(inNamespace("moby"), "/tasks/exit", &eventtypes.TaskExit{ContainerID: "b"}),
					x.Publish(inNamespace("other"), "/tasks/start", &eventtypes.TaskStart{ContainerID: "c"}),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				cancel()
				var got []string
				for e := range events {
					v, err := typeurl.UnmarshalAny(e.Event)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, v.(interface{ GetContainerID() string }).GetContainerID())
				}
				if err := <-errs; !errors.Is(err, context.Canceled) {
					t.Errorf("ended with %v", err)
				}
				if len(got) != len(tc.want) {
					t.Fatalf("got %v, want %v", got, tc.want)
				}
				for i := range got {
					if got[i] != tc.want[i] {
						t.Fatalf("got %v, want %v", got, tc.want)
					}
				}
			})
		})
	}
}

func TestBadFilter(t *testing.T) {
	events, errs := event.NewExchange().Subscribe(context.Background(), "((")
	if err := <-errs; !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	if _, open := <-events; open {
		t.Error("events still open")
	}
}

func TestSlowSubscriberIsEndedAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := event.NewExchange()
		events, errs := x.Subscribe(t.Context())
		for range 5000 {
			if err := x.Publish(inNamespace("moby"), "/tasks/oom", &eventtypes.TaskOOM{ContainerID: "a"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-errs; !errors.Is(err, errdefs.ErrResourceExhausted) {
			t.Errorf("got %v", err)
		}
		n := 0
		for range events {
			n++
		}
		if n != 4096 {
			t.Errorf("%d events were kept", n)
		}
	})
}

func TestRefused(t *testing.T) {
	x := event.NewExchange()
	ev := &eventtypes.TaskStart{ContainerID: "a"}
	a, err := typeurl.MarshalAny(ev)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		err  error
		want error
	}{
		{"no namespace", x.Publish(context.Background(), "/tasks/start", ev), errdefs.ErrFailedPrecondition},
		{"bad namespace", x.Publish(inNamespace("a/b"), "/tasks/start", ev), errdefs.ErrInvalidArgument},
		{"no topic", x.Publish(inNamespace("a"), "", ev), errdefs.ErrInvalidArgument},
		{"relative topic", x.Publish(inNamespace("a"), "tasks", ev), errdefs.ErrInvalidArgument},
		{"empty part", x.Publish(inNamespace("a"), "/tasks//start", ev), errdefs.ErrInvalidArgument},
		{"root topic", x.Publish(inNamespace("a"), "/", ev), errdefs.ErrInvalidArgument},
		{"no event", x.Publish(inNamespace("a"), "/tasks", nil), errdefs.ErrInvalidArgument},
		{"no envelope", x.Forward(context.Background(), nil), errdefs.ErrInvalidArgument},
		{"no time", x.Forward(context.Background(), &coreevent.Envelope{Namespace: "a", Topic: "/t", Event: a}), errdefs.ErrInvalidArgument},
		{"no event in envelope", x.Forward(context.Background(), &coreevent.Envelope{Timestamp: time.Now(), Namespace: "a", Topic: "/t"}), errdefs.ErrInvalidArgument},
	} {
		if !errors.Is(tc.err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, tc.err, tc.want)
		}
	}
}
