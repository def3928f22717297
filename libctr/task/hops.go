package task

import (
	"context"
	"maps"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"gantry/api/shimwire"
	"gantry/libctr/core/event"
)

// noteHops makes spans of what our shim tells about a traced call, below the
// call's own span. What can't be read is dropped: it is for the curious only.
func (m *Manager) noteHops(ctx context.Context, e *event.Envelope) {
	h, err := shimwire.ParseHops(e.Event.GetTypeUrl(), e.Event.GetValue())
	if err != nil {
		m.log.DebugContext(ctx, "hops of a shim", "namespace", e.Namespace, "err", err)
		return
	}
	parent := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{shimwire.Traceparent: h.Traceparent})
	if !trace.SpanContextFromContext(parent).IsValid() {
		return
	}
	within := make([]context.Context, len(h.Hops))
	for i, hop := range h.Hops {
		in := parent
		if hop.Parent >= 0 {
			in = within[hop.Parent]
		}
		start, end := hop.Times()
		var span trace.Span
		within[i], span = m.tracer.Start(in, hop.Name, trace.WithTimestamp(start), trace.WithAttributes(hopAttributes(h, hop)...))
		span.End(trace.WithTimestamp(end))
	}
}

func hopAttributes(h shimwire.Hops, hop shimwire.Hop) []attribute.KeyValue {
	process, pid := hop.Process, hop.Pid
	if process == "" {
		process = "shim"
	}
	if pid == 0 {
		pid = h.Pid
	}
	list := []attribute.KeyValue{
		attribute.String("process", process), attribute.Int("pid", pid), attribute.String("container", h.Container),
	}
	for _, k := range slices.Sorted(maps.Keys(hop.Attributes)) {
		list = append(list, attribute.String(k, hop.Attributes[k]))
	}
	return list
}
