// Package event names what the core tells about changes.
package event

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"
)

// Envelope is one event; Topic is like "/tasks/exit", Event a message of
// github.com/containerd/containerd/api/events.
type Envelope struct {
	Timestamp time.Time
	Namespace string
	Topic     string
	Event     typeurl.Any
}

// Publisher sends an event in the namespace of ctx.
type Publisher interface {
	Publish(ctx context.Context, topic string, ev any) error
}

// Forwarder passes on an event that has its envelope already, a shim's.
type Forwarder interface {
	Forward(ctx context.Context, e *Envelope) error
}

// Subscriber yields events that one of the filters matches, any when there are
// none, until ctx ends; then the error channel yields why and both are closed.
// Events published after Subscribe has returned are seen, over gRPC once the
// server has answered. A subscriber that is too slow gets ResourceExhausted.
type Subscriber interface {
	Subscribe(ctx context.Context, filters ...string) (<-chan *Envelope, <-chan error)
}
