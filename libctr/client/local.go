package client

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"

	"gantry/api/rpcstatus"
)

// Invoker makes a unary call: that half of grpc.ClientConnInterface.
type Invoker interface {
	Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error
}

// local makes unary calls without a connection. What the interceptors of one do, it
// does itself.
type local struct {
	grpc.ClientConnInterface // for streams
	server                   Invoker
	namespace                string
	tracer                   trace.Tracer
}

func newLocal(conn grpc.ClientConnInterface, o options) local {
	l := local{ClientConnInterface: conn, server: o.local, namespace: o.namespace}
	if o.tracer == nil {
		o.tracer = noop.NewTracerProvider()
	}
	l.tracer = o.tracer.Tracer("gantry/libctr/client")
	return l
}

// Invoke implements grpc.ClientConnInterface.
func (l local) Invoke(ctx context.Context, method string, req, reply any, opts ...grpc.CallOption) error {
	ctx, told := bounded(ctx, method)
	name := strings.TrimPrefix(method, "/")
	ctx, span := l.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", name)))
	defer span.End()
	err := told(rpcstatus.From(l.server.Invoke(outgoing(ctx, l.namespace), method, req, reply, opts...)))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
