// Package tracing makes the spans of what services do in steps.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
)

// Step makes a span of a step; the function that it returns ends it, with the error
// that is there by then.
type Step func(ctx context.Context, name string) (context.Context, func(*error))

// Steps are those of a package, by the process's tracer; without one it makes nothing.
func Steps(scope string) Step {
	tracer := otel.Tracer(scope)
	return func(ctx context.Context, name string) (context.Context, func(*error)) {
		ctx, span := tracer.Start(ctx, name)
		return ctx, func(err *error) {
			if *err != nil {
				span.SetStatus(codes.Error, (*err).Error())
			}
			span.End()
		}
	}
}
