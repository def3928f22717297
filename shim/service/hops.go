package service

import (
	"context"
	"os"

	"github.com/containerd/ttrpc"

	"gantry/api/shimwire"
	"gantry/runtime/hop"
)

// traced lets the calls of ctx note their hops when the engine traces this call,
// and returns the function that sends them, once the answer is on its way. Else
// it does nothing.
func (s *Service) traced(ctx context.Context, id, name string) (context.Context, func()) {
	parent, ok := ttrpc.GetMetadataValue(ctx, shimwire.Traceparent)
	if !ok || !sampled(parent) {
		return ctx, func() {}
	}
	t := new(hop.Trace)
	ctx, end := hop.Begin(hop.With(ctx, t), name)
	return ctx, func() {
		end()
		s.draining.Go(func() { s.sendHops(parent, id, t) })
	}
}

// sampled says whether a W3C traceparent asks for spans:
// 00-<32 hex digits>-<16 hex digits>-<flags, 2 hex digits>, bit 0 of the flags.
func sampled(parent string) bool {
	const digits = "13579bdf"
	if len(parent) != 55 {
		return false
	}
	for i := range digits {
		if parent[54] == digits[i] {
			return true
		}
	}
	return false
}

func (s *Service) sendHops(parent, id string, t *hop.Trace) {
	list, lost := t.Hops()
	h := shimwire.Hops{
		Traceparent: parent, Container: id, Pid: os.Getpid(), Lost: lost, Hops: make([]shimwire.Hop, len(list)),
	}
	for i, p := range list {
		h.Hops[i] = shimwire.Hop{
			Name: p.Name, Process: p.Process, Pid: p.Pid, Start: p.Start.UnixNano(), End: p.End.UnixNano(),
			Parent: p.Parent, Attributes: p.Attributes,
		}
		// The two clocks of a machine may differ by the adjustment of one.
		h.Hops[i].End = max(h.Hops[i].End, h.Hops[i].Start)
	}
	event, err := h.Any()
	if err != nil {
		s.cfg.Log.Warn("encode hops", "container", id, "err", err)
		return
	}
	s.cfg.Events.Publish(shimwire.TopicHops, event)
}
