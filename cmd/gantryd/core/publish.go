package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/libctr/client"
)

const (
	publishTimeout = 10 * time.Second
	maxEvent       = client.MaxMessageSize // bytes of an event
)

// publish sends the event on stdin, an Any, to the core at address: what shims that
// speak no ttrpc call their -publish-binary for.
func publish(ctx context.Context, address string, args []string, stdin io.Reader) error {
	var topic, ns string
	set := newSet("publish")
	set.StringVar(&topic, "topic", "", "Topic of the event")
	set.StringVar(&ns, "namespace", "", "Namespace to publish to")
	set.StringVarP(&address, "address", "a", address, "Address of the core")
	if err := set.Parse(args); err != nil {
		return asHelp(set, err)
	}
	switch {
	case topic == "":
		return errors.New("publish: a topic is needed")
	case address == "":
		return errors.New("publish: the address of a core is needed")
	}
	event, err := readEvent(stdin)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	c, err := client.New(address, client.WithNamespace(ns))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err = eventsapi.NewEventsClient(c.Conn()).Publish(ctx, &eventsapi.PublishRequest{Topic: topic, Event: event})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func readEvent(from io.Reader) (*anypb.Any, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxEvent+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxEvent {
		return nil, fmt.Errorf("the event is larger than %d bytes", maxEvent)
	}
	var event anypb.Any
	if err := proto.Unmarshal(data, &event); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return &event, nil
}
