package shimwire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// A shim that serves a traced call, one with a W3C traceparent among its ttrpc
// metadata, tells after its answer what the call was made of: one event under
// TopicHops, whose type is hopsType and whose value is Hops in JSON. It is for the
// core, which makes spans of it and passes it on to nobody.
const (
	TopicHops   = "/gantry/hops"
	Traceparent = "traceparent" // the key of the metadata
	hopsType    = "gantry.shim.v1.Hops"

	// MaxHops and MaxHopsSize bound one event, in hops and bytes.
	MaxHops     = 2048
	MaxHopsSize = 1 << 20
)

// Hops is what one call was made of.
type Hops struct {
	Traceparent string `json:"traceparent"` // as the call brought it
	Container   string `json:"container"`
	Pid         int    `json:"pid"` // the shim's
	Hops        []Hop  `json:"hops"`
	Lost        int    `json:"lost,omitempty"` // hops that were too many
}

// Hop is one of them. Times are of the wall clock, in nanoseconds.
type Hop struct {
	Name       string            `json:"n"`
	Process    string            `json:"p,omitempty"` // "" is the shim, "init" the container's first process
	Pid        int               `json:"pid,omitempty"`
	Start      int64             `json:"s"`
	End        int64             `json:"e"`
	Parent     int               `json:"in"` // index of an earlier hop; -1 is the call itself
	Attributes map[string]string `json:"a,omitempty"`
}

// Times are when the hop began and ended.
func (h Hop) Times() (start, end time.Time) { return time.Unix(0, h.Start), time.Unix(0, h.End) }

// Any packs h as an event; hops that would make it too large are cut off.
func (h Hops) Any() (*anypb.Any, error) {
	for {
		raw, err := json.Marshal(h)
		if err != nil {
			return nil, err
		}
		if len(raw) <= MaxHopsSize && len(h.Hops) <= MaxHops || len(h.Hops) == 0 {
			return &anypb.Any{TypeUrl: hopsType, Value: raw}, nil
		}
		keep := min(len(h.Hops)/2, MaxHops)
		h.Lost += len(h.Hops) - keep
		h.Hops = h.Hops[:keep]
	}
}

// ParseHops unpacks and checks an event: parents come before their parts, and
// nothing ends before it begins.
func ParseHops(typeURL string, value []byte) (Hops, error) {
	var h Hops
	switch {
	case typeURL != hopsType:
		return h, fmt.Errorf("event of type %.100q is no hops", typeURL)
	case len(value) > MaxHopsSize:
		return h, errors.New("hops are too large")
	}
	if err := json.Unmarshal(value, &h); err != nil {
		return h, fmt.Errorf("hops: %w", err)
	}
	if len(h.Hops) > MaxHops {
		return h, errors.New("too many hops")
	}
	for i, hop := range h.Hops {
		if hop.Parent < -1 || hop.Parent >= i {
			return h, fmt.Errorf("hop %d is part of %d", i, hop.Parent)
		}
		if hop.End < hop.Start {
			return h, fmt.Errorf("hop %d ends before it begins", i)
		}
	}
	return h, nil
}
