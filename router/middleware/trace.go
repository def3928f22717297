package middleware

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"gantry/api/reqctx"
)

// Trace makes each request of a route a span, a child of the client's when its
// headers name one. The name is "POST /containers/{name}/start".
func Trace(tracer trace.Tracer, name string) Middleware {
	name = strings.ReplaceAll(name, ":.*}", "}") // how far a variable reaches says nothing here
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			ctx, span := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer),
				trace.WithAttributes(attribute.String("request", reqctx.RequestID(ctx))))
			defer span.End()
			next.ServeHTTP(w, r.WithContext(ctx))
			status := observed(w).Status()
			span.SetAttributes(attribute.Int("http.response.status_code", status))
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, http.StatusText(status))
			}
		})
	}
}
