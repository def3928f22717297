// Package notify publishes what a service has changed. By then the change is on
// disk: an event that can't be published is logged, not an error of the call.
package notify

import (
	"context"
	"log/slog"

	"gantry/libctr/core/event"
)

// Publisher may lack either part.
type Publisher struct {
	Events event.Publisher
	Log    *slog.Logger
}

// Publish sends ev, a message of github.com/containerd/containerd/api/events,
// even when the caller has gone meanwhile.
func (p Publisher) Publish(ctx context.Context, topic string, ev any) {
	if p.Events == nil {
		return
	}
	err := p.Events.Publish(context.WithoutCancel(ctx), topic, ev)
	if err != nil && p.Log != nil {
		p.Log.WarnContext(ctx, "publish event", "topic", topic, "err", err)
	}
}
