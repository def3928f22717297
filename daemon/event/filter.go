package event

import (
	"slices"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"gantry/daemon/filter"
)

// kinds are the types of events whose filter of the same name takes ids and names, or
// beginnings of them. The filter image has rules of its own.
var kinds = []events.Type{
	events.ContainerEventType, events.VolumeEventType, events.NetworkEventType, events.DaemonEventType,
	events.PluginEventType, events.NodeEventType, events.ServiceEventType, events.SecretEventType, events.ConfigEventType,
}

func checkFilter(f filters.Args) error {
	keys := []string{"type", "event", "scope", "label", "image"}
	for _, k := range kinds {
		keys = append(keys, string(k))
	}
	return filter.Accept(f, keys...)
}

// Match says whether f lets an event through. It is pure. Values of one filter are
// alternatives, but for label, which all must fit; filters restrict each other.
func Match(f filters.Args, m events.Message) bool {
	if f.Len() == 0 {
		return true
	}
	return f.ExactMatch("type", string(m.Type)) &&
		matchAction(f, string(m.Action)) &&
		f.ExactMatch("scope", m.Scope) &&
		(!f.Contains("label") || f.MatchKVList("label", m.Actor.Attributes)) &&
		matchActor(f, m) &&
		matchImage(f, m)
}

// open actions carry more after a colon; asked for by name alone, they match by it.
var openActions = []string{string(events.ActionHealthStatus), string(events.ActionExecCreate), string(events.ActionExecStart)}

func matchAction(f filters.Args, action string) bool {
	for _, v := range f.Get("event") {
		if slices.Contains(openActions, v) {
			return f.FuzzyMatch("event", action)
		}
	}
	return f.ExactMatch("event", action)
}

func matchActor(f filters.Args, m events.Message) bool {
	for _, k := range kinds {
		key := string(k)
		if !f.FuzzyMatch(key, m.Actor.ID) && !f.FuzzyMatch(key, m.Actor.Attributes["name"]) {
			return false
		}
	}
	return true
}

// matchImage matches the id or name of an image, with or without its tag; for other
// events the image they name.
func matchImage(f filters.Args, m events.Message) bool {
	if !f.Contains("image") {
		return true
	}
	attr := "image"
	if m.Type == events.ImageEventType {
		attr = "name"
	}
	name := m.Actor.Attributes[attr]
	for _, v := range []string{m.Actor.ID, name, withoutTag(m.Actor.ID), withoutTag(name)} {
		if f.ExactMatch("image", v) {
			return true
		}
	}
	return false
}

func withoutTag(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(named)
}
