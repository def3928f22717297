package event_test

import (
	"testing"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"gantry/daemon/event"
)

func TestMatch(t *testing.T) {
	start := events.Message{
		Type: events.ContainerEventType, Action: events.ActionStart, Scope: "local",
		Actor: events.Actor{ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "shop/web:1", "tier": "front"}},
	}
	exec := start
	exec.Action = "exec_create: sh -c ls"
	pull := events.Message{
		Type: events.ImageEventType, Action: events.ActionPull, Scope: "local",
		Actor: events.Actor{ID: "shop/web:1", Attributes: map[string]string{"name": "shop/web"}},
	}
	connect := events.Message{
		Type: events.NetworkEventType, Action: events.ActionConnect, Scope: "local",
		Actor: events.Actor{ID: "9f8e", Attributes: map[string]string{"name": "mine", "container": "abcdef"}},
	}
	for _, row := range []struct {
		why  string
		f    []string
		m    events.Message
		want bool
	}{
		{"no filter", nil, start, true},
		{"type", []string{"type", "container"}, start, true},
		{"other type", []string{"type", "image"}, start, false},
		{"either type", []string{"type", "image", "type", "container"}, start, true},
		{"event", []string{"event", "start"}, start, true},
		{"event is exact", []string{"event", "sta"}, start, false},
		{"exec_create by name alone", []string{"event", "exec_create"}, exec, true},
		{"exec_start is another", []string{"event", "exec_start"}, exec, false},
		{"container by name", []string{"container", "web"}, start, true},
		{"container by prefix of its id", []string{"container", "abc"}, start, true},
		{"other container", []string{"container", "db"}, start, false},
		// as dockerd: the filter is on the actor, whatever its type
		{"container of a network event", []string{"container", "abcdef"}, connect, false},
		{"image of a container", []string{"image", "shop/web:1"}, start, true},
		{"image without its tag", []string{"image", "shop/web"}, start, true},
		{"image event", []string{"image", "shop/web"}, pull, true},
		{"other image", []string{"image", "shop"}, pull, false},
		{"label", []string{"label", "tier"}, start, true},
		{"label with value", []string{"label", "tier=front"}, start, true},
		{"label with other value", []string{"label", "tier=back"}, start, false},
		{"all labels", []string{"label", "tier", "label", "none"}, start, false},
		{"network", []string{"network", "mine"}, connect, true},
		{"volume", []string{"volume", "data"}, connect, false},
		{"scope", []string{"scope", "local"}, start, true},
		{"other scope", []string{"scope", "swarm"}, start, false},
		{"type and event", []string{"type", "container", "event", "die"}, start, false},
	} {
		f := filters.NewArgs()
		for i := 0; i < len(row.f); i += 2 {
			f.Add(row.f[i], row.f[i+1])
		}
		if got := event.Match(f, row.m); got != row.want {
			t.Errorf("%s: %v", row.why, got)
		}
	}
}
