// Package events serves the core's exchange: containerd.services.events.v1.Events
// over gRPC to clients, and containerd.services.events.ttrpc.v1.Events to shims.
package events

import (
	"context"
	"fmt"

	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	ttrpcapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/libctr/core/event"
	"gantry/libctr/core/wire"
)

// Exchange is what the service needs of it.
type Exchange interface {
	event.Publisher
	event.Subscriber
}

// Service is the gRPC and the ttrpc service. Safe for concurrent use.
type Service struct {
	eventsapi.UnimplementedEventsServer
	exchange Exchange
	forward  event.Forwarder
}

// New returns the service. What is forwarded goes to forward, which may look at it
// on its way to the exchange.
func New(exchange Exchange, forward event.Forwarder) *Service {
	return &Service{exchange: exchange, forward: forward}
}

// Register adds the service to a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) { eventsapi.RegisterEventsServer(r, s) }

// RegisterTTRPC adds the shims' service to a ttrpc server.
func (s *Service) RegisterTTRPC(srv *ttrpc.Server) {
	ttrpcapi.RegisterTTRPCEventsService(srv, shims{s.forward})
}

func (s *Service) Publish(ctx context.Context, r *eventsapi.PublishRequest) (*emptypb.Empty, error) {
	if r.GetEvent() == nil {
		return nil, errdefs.InvalidArgument("event of topic %q is empty: invalid argument", r.GetTopic())
	}
	return new(emptypb.Empty), s.exchange.Publish(ctx, r.GetTopic(), r.GetEvent())
}

func (s *Service) Forward(ctx context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	return new(emptypb.Empty), forward(ctx, s.forward, r.GetEnvelope())
}

func forward(ctx context.Context, to event.Forwarder, e *types.Envelope) error {
	if e.GetEvent() == nil {
		return errdefs.InvalidArgument("event of topic %q is empty: invalid argument", e.GetTopic())
	}
	return to.Forward(ctx, &event.Envelope{
		Timestamp: wire.Time(e.GetTimestamp()), Namespace: e.GetNamespace(), Topic: e.GetTopic(), Event: e.GetEvent()})
}

// Subscribe sends its headers as soon as the subscription stands, so that a client
// that waits for them misses nothing it causes afterwards.
func (s *Service) Subscribe(r *eventsapi.SubscribeRequest, stream eventsapi.Events_SubscribeServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	events, errs := s.exchange.Subscribe(ctx, r.GetFilters()...)
	select {
	case err := <-errs: // a filter that does not parse
		return fmt.Errorf("subscription error: %w", err)
	default:
	}
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for e := range events {
		err := stream.Send(&types.Envelope{
			Timestamp: wire.Timestamp(e.Timestamp), Namespace: e.Namespace, Topic: e.Topic, Event: wire.Any(e.Event)})
		if err != nil {
			return err
		}
	}
	return <-errs
}

// shims is the ttrpc face.
type shims struct{ forward event.Forwarder }

func (s shims) Forward(ctx context.Context, r *ttrpcapi.ForwardRequest) (*emptypb.Empty, error) {
	return new(emptypb.Empty), forward(ctx, s.forward, r.GetEnvelope())
}
