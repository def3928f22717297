package middleware

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"gantry/api/reqctx"
)

// SpanName is what the spans of a route are called: "POST /containers/{name}/start".
func SpanName(method, path string) string {
	return method + " " + strings.ReplaceAll(path, ":.*}", "}") // how far a variable reaches says nothing here
}

// Trace makes a request a span, a child of the client's when its headers name one; end
// ends it with the status of w.
func Trace(ctx context.Context, tracer trace.Tracer, name string, w http.ResponseWriter, r *http.Request) (_ context.Context, end func()) {
	ctx = otel.GetTextMapPropagator().Extract(ctx, propagation.HeaderCarrier(r.Header))
	ctx, span := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("request", reqctx.RequestID(ctx))))
	return ctx, func() {
		status := observed(w).Status()
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
		span.End()
	}
}
