package event

import (
	"fmt"
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
	if err := identifier.Validate(e.Namespace); err != nil {
		return fmt.Errorf("event envelope has invalid namespace: %w", err)
	}
	if err := validateTopic(e.Topic); err != nil {
		return fmt.Errorf("envelope topic %q: %w", e.Topic, err)
	}
	if e.Event == nil || e.Event.GetTypeUrl() == "" {
		return errdefs.InvalidArgument("event of topic %q has no type: invalid argument", e.Topic)
	}
	if e.Timestamp.IsZero() {
		return errdefs.InvalidArgument("timestamp must be set on forwarded event: invalid argument")
	}
	return nil
}

func validateTopic(topic string) error {
	if topic == "" {
		return errdefs.InvalidArgument("must not be empty: invalid argument")
	}
	rest, ok := strings.CutPrefix(topic, "/")
	if !ok {
		return errdefs.InvalidArgument("must start with '/': invalid argument")
	}
	if rest == "" {
		return errdefs.InvalidArgument("must have at least one component: invalid argument")
	}
	for part := range strings.SplitSeq(rest, "/") {
		if err := identifier.Validate(part); err != nil {
			return fmt.Errorf("failed validation on component %q: %w", part, err)
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
