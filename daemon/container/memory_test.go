package container

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	statsv1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/libctr/core/event"
)

// A container counts as killed for memory when one of its processes was, and only then.
func TestKilledForMemory(t *testing.T) {
	tests := []struct {
		name   string
		memory int64
		code   uint32
		kills  uint64
		want   bool
	}{
		{"the init", 0, 137, 1, true},
		{"killed by a user", 64 << 20, 137, 0, false},
		{"a child, before the init ended well", 64 << 20, 0, 1, true},
		{"a good end", 64 << 20, 0, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(w *world, s *Service) {
				w.metrics = &statsv1.Metrics{MemoryOomControl: &statsv1.MemoryOomControl{OomKill: tt.kills}}
				id := w.make(s, "web", func(o *apicontainer.CreateOptions) { o.HostConfig.Memory = tt.memory })
				if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
					t.Fatal(err)
				}
				w.end(id, tt.code)
				synctest.Wait()
				if c := s.entry(id).snapshot(); c.OOMKilled != tt.want {
					t.Errorf("%+v", c.State)
				}
				if got := strings.Contains(w.told(), "oom die"); got != tt.want {
					t.Errorf("events: %s", w.told())
				}
			})
		})
	}
}

// A hint that comes after the exit is of the run that has ended, not of the next.
func TestLateHintOfMemory(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "web", nil)
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		killed := time.Now()
		hint := func() {
			raw, err := typeurl.MarshalAny(&eventsapi.TaskOOM{ContainerID: id})
			if err != nil {
				t.Fatal(err)
			}
			s.hint(&event.Envelope{Topic: "/tasks/oom", Timestamp: killed, Event: raw})
		}
		w.end(id, 0)
		synctest.Wait()
		hint()
		hint()
		if c := s.entry(id).snapshot(); !c.OOMKilled || strings.Count(w.told(), "oom") != 1 {
			t.Errorf("late: %+v, %s", c.State, w.told())
		}
		time.Sleep(time.Second)
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		w.end(id, 0)
		synctest.Wait()
		hint()
		if c := s.entry(id).snapshot(); c.OOMKilled {
			t.Errorf("of the run before: %+v", c.State)
		}
	})
}
