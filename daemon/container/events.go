package container

import (
	"maps"

	"github.com/docker/docker/api/types/events"
)

// publish sends an event of a container: its labels, image and name come along with
// extra and win over it, as in dockerd.
func (s *Service) publish(c *Snapshot, action events.Action, extra map[string]string) {
	s.Events.Publish(events.ContainerEventType, action, actor(c, extra))
}

func actor(c *Snapshot, extra map[string]string) events.Actor {
	attrs := maps.Clone(extra)
	if attrs == nil {
		attrs = map[string]string{}
	}
	maps.Copy(attrs, c.Config.Labels)
	if c.Config.Image != "" {
		attrs["image"] = c.Config.Image
	}
	attrs["name"] = c.Name
	return events.Actor{ID: c.ID, Attributes: attrs}
}

// Publish sends an event of the container id; other services use it for execs.
func (s *Service) Publish(id string, action events.Action, extra map[string]string) {
	if e := s.entry(id); e != nil {
		s.publish(e.snapshot(), action, extra)
	}
}

// PublishFleeting is Publish of an event that is not worth the disk.
func (s *Service) PublishFleeting(id string, action events.Action, extra map[string]string) {
	if e := s.entry(id); e != nil {
		s.Events.PublishFleeting(events.ContainerEventType, action, actor(e.snapshot(), extra))
	}
}
