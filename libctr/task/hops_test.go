package task_test

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/shimwire"
	"gantry/libctr/core/event"
)

// TestHopsBecomeSpans below the span of the call, with the shim's times, and go to
// nobody else.
func TestHopsBecomeSpans(t *testing.T) {
	f, ctx := setup(t, "protobuf"), testContext(t)
	spans := tracetest.NewInMemoryExporter()
	f.cfg.Tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	f.open(t)
	seen, _ := f.exchange.Subscribe(ctx)

	at := time.Unix(1700000000, 0)
	in := shimwire.Hops{
		Traceparent: "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", Container: "one", Pid: 7,
		Hops: []shimwire.Hop{
			{Name: "shim create", Start: at.UnixNano(), End: at.Add(9).UnixNano(), Parent: -1},
			{Name: "set up", Process: "init", Pid: 8, Start: at.Add(2).UnixNano(), End: at.Add(5).UnixNano(), Parent: 0, Attributes: map[string]string{"calls": "3"}},
		},
	}
	body, err := in.Any()
	if err != nil {
		t.Fatal(err)
	}
	send := func(topic string, body *anypb.Any) {
		t.Helper()
		if err := f.Forward(ctx, &event.Envelope{Timestamp: at, Namespace: "ns", Topic: topic, Event: body}); err != nil {
			t.Fatal(err)
		}
	}
	send(shimwire.TopicHops, body)
	send(shimwire.TopicHops, &anypb.Any{TypeUrl: body.TypeUrl, Value: []byte("nonsense")}) // is dropped
	send("/tasks/oom", &anypb.Any{TypeUrl: "containerd.events.TaskOOM"})
	if e := <-seen; e.Topic != "/tasks/oom" {
		t.Errorf("%s was passed on", e.Topic)
	}

	got := spans.GetSpans()
	if len(got) != 2 {
		t.Fatalf("%d spans", len(got))
	}
	outer, inner := got[0], got[1]
	if id := outer.Parent.SpanID().String(); id != "0123456789abcdef" || !outer.Parent.IsRemote() {
		t.Errorf("the first span's parent is %s", id)
	}
	if inner.Parent.SpanID() != outer.SpanContext.SpanID() || inner.SpanContext.TraceID() != outer.Parent.TraceID() {
		t.Errorf("the second span's parent is %v", inner.Parent)
	}
	if !inner.StartTime.Equal(at.Add(2)) || !inner.EndTime.Equal(at.Add(5)) {
		t.Errorf("the second span is from %v to %v", inner.StartTime, inner.EndTime)
	}
	set := attribute.NewSet(inner.Attributes...)
	for key, want := range map[attribute.Key]string{"process": "init", "pid": "8", "container": "one", "calls": "3"} {
		if v, ok := set.Value(key); !ok || v.Emit() != want {
			t.Errorf("%s is %q", key, v.Emit())
		}
	}
}
