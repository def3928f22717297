package client

import (
	"context"
	"errors"
	"io"

	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/libctr/core/event"
	"gantry/libctr/core/wire"
)

// Events publishes to and reads from the core's exchange.
type Events interface {
	event.Publisher
	event.Forwarder
	event.Subscriber
}

// Events returns the core's events. A subscription that the server ends is not
// renewed; that is its owner's to do, who also knows what it may have missed.
func (c *Client) Events() Events { return &events{rpc: eventsapi.NewEventsClient(c.conn)} }

type events struct{ rpc eventsapi.EventsClient }

func (e *events) Publish(ctx context.Context, topic string, ev any) error {
	a, err := typeurl.MarshalAny(ev)
	if err != nil {
		return errdefs.InvalidArgument("event of topic %s: %w", topic, err)
	}
	_, err = e.rpc.Publish(ctx, &eventsapi.PublishRequest{Topic: topic, Event: wire.Any(a)})
	return err
}

func (e *events) Forward(ctx context.Context, env *event.Envelope) error {
	_, err := e.rpc.Forward(ctx, &eventsapi.ForwardRequest{Envelope: &types.Envelope{
		Timestamp: timestamppb.New(env.Timestamp),
		Namespace: env.Namespace,
		Topic:     env.Topic,
		Event:     wire.Any(env.Event),
	}})
	return err
}

// Subscribe waits for the server's header before it returns, which our server
// sends once it is subscribed. A real containerd sends it with the first event
// only, so the wait is not for it: see subscribed.
func (e *events) Subscribe(ctx context.Context, filters ...string) (<-chan *event.Envelope, <-chan error) {
	out, errs := make(chan *event.Envelope), make(chan error, 1)
	s, err := e.rpc.Subscribe(ctx, &eventsapi.SubscribeRequest{Filters: filters})
	if err != nil {
		errs <- err
		close(errs)
		close(out)
		return out, errs
	}
	subscribed(ctx, s)
	go func() { // ends with the stream, so with ctx or the connection
		defer close(errs)
		defer close(out)
		errs <- relay(ctx, s, out)
	}()
	return out, errs
}

// relay passes on what the stream yields until it ends, and says why.
func relay(ctx context.Context, s eventsapi.Events_SubscribeClient, out chan<- *event.Envelope) error {
	for {
		env, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return errdefs.Unavailable("the core ended the event stream")
		}
		if err != nil {
			return err
		}
		select {
		case out <- envelopeFromProto(env):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func envelopeFromProto(p *types.Envelope) *event.Envelope {
	env := &event.Envelope{Timestamp: wire.Time(p.GetTimestamp()), Namespace: p.GetNamespace(), Topic: p.GetTopic()}
	if a := p.GetEvent(); a != nil {
		env.Event = a
	}
	return env
}
