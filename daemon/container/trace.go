package container

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
)

// tracer is the process's; without one it makes nothing.
var tracer = otel.Tracer("gantry/daemon/container")

// step makes a span of a step; the function that it returns ends it, with the error
// that is there by then.
func step(ctx context.Context, name string) (context.Context, func(*error)) {
	ctx, span := tracer.Start(ctx, name)
	return ctx, func(err *error) {
		if *err != nil {
			span.SetStatus(codes.Error, (*err).Error())
		}
		span.End()
	}
}
