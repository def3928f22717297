// Package tracing makes spans of what a process of this command does, where somebody
// wants them.
package tracing

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"gantry/api/version"
)

// fileQueue is how many spans wait for the trace file at most; a start has some 400.
const fileQueue = 1 << 14

// New makes spans where somebody wants them: OTEL_EXPORTER_OTLP_ENDPOINT sends
// them to a collector, GANTRY_TRACE_FILE appends them to a file, a JSON object each.
// Without either it returns nil and nothing is traced. The returned function flushes.
func New(ctx context.Context) (trace.TracerProvider, func(context.Context) error, error) {
	var opts []sdktrace.TracerProviderOption
	closers := []func(context.Context) error{}
	if path := os.Getenv("GANTRY_TRACE_FILE"); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("open trace file: %w", err)
		}
		exp, err := stdouttrace.New(stdouttrace.WithWriter(f))
		if err != nil {
			return nil, nil, err
		}
		// Written later and together, so that writing does not slow down what is traced.
		opts = append(opts, sdktrace.WithBatcher(exp, sdktrace.WithBatchTimeout(time.Second),
			sdktrace.WithMaxQueueSize(fileQueue), sdktrace.WithMaxExportBatchSize(fileQueue)))
		closers = append(closers, func(context.Context) error { return f.Close() })
	}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		exp, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("trace exporter: %w", err)
		}
		opts = append(opts, sdktrace.WithBatcher(exp))
	}
	if len(opts) == 0 {
		return nil, func(context.Context) error { return nil }, nil
	}
	opts = append(opts, sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", "gantryd"), attribute.String("service.version", version.Version))))
	tp := sdktrace.NewTracerProvider(opts...)
	otel.SetTracerProvider(tp)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return tp, func(ctx context.Context) error {
		err := tp.Shutdown(ctx)
		for _, c := range closers {
			if cerr := c(ctx); err == nil {
				err = cerr
			}
		}
		return err
	}, nil
}
