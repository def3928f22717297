package event

import (
	"strings"
	"sync"

	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/libctr/core/event"
	"gantry/libctr/filter"
	"gantry/libctr/identifier"
)

// validate checks what every envelope must have: a namespace, a topic of the form
// "/part/part" and an event.
func validate(e *event.Envelope) error {
	if e.Namespace == "" {
		return errdefs.FailedPrecondition("event of topic %q: namespace is required", e.Topic)
	}
	if err := identifier.Validate(e.Namespace); err != nil {
		return errdefs.InvalidArgument("event namespace: %w", err)
	}
	if e.Event == nil || e.Event.GetTypeUrl() == "" {
		return errdefs.InvalidArgument("event of topic %q has no type", e.Topic)
	}
	return validateTopic(e.Topic)
}

func validateTopic(topic string) error {
	rest, ok := strings.CutPrefix(topic, "/")
	if !ok {
		return errdefs.InvalidArgument("topic %q must start with '/'", topic)
	}
	for part := range strings.SplitSeq(rest, "/") {
		if err := identifier.Validate(part); err != nil {
			return errdefs.InvalidArgument("topic %q: %w", topic, err)
		}
	}
	return nil
}

// lazyFields looks up an envelope's fields; the event is decoded when a filter
// first asks for it, at most once.
func lazyFields(e *event.Envelope) filter.Fields {
	decoded := sync.OnceValue(func() fielder {
		v, err := typeurl.UnmarshalAny(e.Event)
		if err != nil {
			return nil // of a type unknown here: it has no fields
		}
		f, _ := v.(fielder)
		return f
	})
	return func(path []string) (string, bool) {
		if len(path) == 0 {
			return "", false
		}
		switch path[0] {
		case "namespace":
			return e.Namespace, e.Namespace != ""
		case "topic":
			return e.Topic, e.Topic != ""
		case "event":
			if f := decoded(); f != nil {
				return f.Field(path[1:])
			}
		}
		return "", false
	}
}

// fielder is what the messages of the events API implement.
type fielder interface {
	Field(path []string) (string, bool)
}
