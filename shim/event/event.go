// Package event carries a shim's events to the engine, in the order in which they
// were published, over whatever restarts of the engine.
//
// Events wait in a bounded spool; one goroutine sends them one by one to
// containerd.services.events.ttrpc.v1.Events/Forward and tries again while the
// engine is away. When the spool is full the oldest go: an engine that comes
// back asks for states anyway.
package event

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	spoolSize   = 2048
	sendTimeout = 5 * time.Second
	firstWait   = 20 * time.Millisecond
	longestWait = time.Second
)

// Publisher sends events. Safe for concurrent use.
type Publisher struct {
	to        sender // of the sending goroutine; nil when events go nowhere
	namespace string
	log       *slog.Logger
	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}

	mu      sync.Mutex
	spool   []*event      // guarded by mu; the first is being sent
	dropped int           // guarded by mu
	closing bool          // guarded by mu
	more    chan struct{} // capacity 1
}

// event is what Publish was given. It is encoded when it is sent: by then the answer
// to the call that it tells of is on its way.
type event struct {
	topic string
	at    time.Time
	body  proto.Message
}

// NewPublisher returns a publisher to the ttrpc server at address, a path or
// unix://path; with "" events go nowhere. Close ends it.
func NewPublisher(address, namespace string, log *slog.Logger) *Publisher {
	if address == "" {
		return newPublisher(nil, namespace, log)
	}
	return newPublisher(&overTTRPC{address: strings.TrimPrefix(address, "unix://")}, namespace, log)
}

func newPublisher(to sender, namespace string, log *slog.Logger) *Publisher {
	p := &Publisher{to: to, namespace: namespace, log: log, done: make(chan struct{}), more: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	go p.run()
	return p
}

// Publish queues an event with the present time; the message is the publisher's then.
// It does not block.
func (p *Publisher) Publish(topic string, body proto.Message) {
	e := &event{topic, time.Now(), body}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to == nil {
		return
	}
	if len(p.spool) >= spoolSize {
		p.spool = append(p.spool[:1], p.spool[2:]...)
		p.dropped++
	}
	p.spool = append(p.spool, e)
	p.wake()
}

func (p *Publisher) wake() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// anyOf packs a message as containerd's typeurl does: the bare name of its type.
// What is packed already stays.
func anyOf(m proto.Message) (*anypb.Any, error) {
	if packed, ok := m.(*anypb.Any); ok {
		return packed, nil
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}

// Close sends what is queued until ctx is done, then ends the publisher.
func (p *Publisher) Close(ctx context.Context) {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.wake()
	select {
	case <-p.done:
	case <-ctx.Done():
	}
	p.cancel()
	<-p.done
}

func (p *Publisher) run() {
	defer close(p.done)
	if p.to != nil {
		defer p.to.disconnect()
	}
	for {
		e, over := p.first()
		switch {
		case over || p.ctx.Err() != nil:
			return
		case e == nil:
			select {
			case <-p.more:
			case <-p.ctx.Done():
			}
		default:
			p.deliver(e)
		}
	}
}

// first returns the oldest event, nil when there is none.
func (p *Publisher) first() (e *event, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spool) == 0 {
		p.spool = nil
		return nil, p.closing
	}
	return p.spool[0], false
}

// deliver sends e until it is taken, or refused for what it is.
func (p *Publisher) deliver(e *event) {
	body, err := anyOf(e.body)
	if err != nil {
		p.log.Error("encode event", "topic", e.topic, "err", err)
		p.drop(e, nil)
		return
	}
	sealed := &types.Envelope{Timestamp: timestamppb.New(e.at), Namespace: p.namespace, Topic: e.topic, Event: body}
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		err := p.send(sealed)
		if err == nil || refused(err) {
			p.drop(e, err)
			return
		}
		p.to.disconnect()
		p.log.Debug("send event", "topic", e.topic, "err", err)
		select {
		case <-time.After(wait):
		case <-p.ctx.Done():
			return
		}
	}
}

// refused says whether the engine has understood and does not want the event.
func refused(err error) bool {
	s, ok := status.FromError(err)
	return ok && (s.Code() == codes.InvalidArgument || s.Code() == codes.Unimplemented)
}

func (p *Publisher) drop(e *event, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spool) > 0 && p.spool[0] == e {
		p.spool[0] = nil
		p.spool = p.spool[1:]
	}
	if err != nil {
		p.log.Warn("event refused", "topic", e.topic, "err", err)
	}
	if p.dropped > 0 {
		p.log.Warn("events dropped while the engine was away", "count", p.dropped)
		p.dropped = 0
	}
}

func (p *Publisher) send(e *types.Envelope) error {
	ctx, cancel := context.WithTimeout(p.ctx, sendTimeout)
	defer cancel()
	return p.to.send(ctx, e)
}
