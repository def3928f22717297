package image

import (
	"context"
	"maps"

	"github.com/docker/docker/api/types/events"
	"github.com/opencontainers/go-digest"

	"gantry/libctr/core/image"
)

// publishLabelled tells of an image that is there, with its labels as attributes.
func (s *Service) publishLabelled(ctx context.Context, action events.Action, img image.Image, id, name string) {
	attrs := map[string]string{}
	if m, err := s.best(context.WithoutCancel(ctx), img, nil); err == nil {
		maps.Copy(attrs, m.config.Config.Labels)
	}
	attrs["name"] = name
	s.events.Publish(events.ImageEventType, action, events.Actor{ID: id, Attributes: attrs})
}

// publish tells of an image that may have gone.
func (s *Service) publish(action events.Action, id digest.Digest, name string) {
	s.events.Publish(events.ImageEventType, action, events.Actor{
		ID: id.String(), Attributes: map[string]string{"name": name},
	})
}
