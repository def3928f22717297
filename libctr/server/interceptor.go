package server

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"github.com/containerd/ttrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/lease"
	"gantry/libctr/identifier"
)

// The headers of a call; ttrpc has its own name for the namespace.
const (
	headerNamespace = "containerd-namespace"
	headerLease     = "containerd-lease"
	headerRequestID = "gantry-request-id"
	ttrpcNamespace  = "containerd-namespace-ttrpc"
)

// endless are the calls that wait for something to happen; they end when the
// server stops.
var endless = map[string]bool{
	"/containerd.services.tasks.v1.Tasks/Wait":           true,
	"/containerd.services.sandbox.v1.Controller/Wait":    true,
	"/containerd.services.events.v1.Events/Subscribe":    true,
	"/containerd.services.streaming.v1.Streaming/Stream": true,
	"/grpc.health.v1.Health/Watch":                       true,
}

func (s *Server) grpcOptions(m *callMetrics) []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(s.cfg.GRPC.MaxRecvMessage),
		grpc.MaxSendMsgSize(s.cfg.GRPC.MaxSendMessage),
		grpc.ChainUnaryInterceptor(m.unary, s.unary),
		grpc.ChainStreamInterceptor(m.stream, s.stream),
	}
	if s.cfg.Tracing != nil {
		opts = append(opts, grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(s.cfg.Tracing), otelgrpc.WithPropagators(propagation.TraceContext{}))))
	}
	return opts
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer func() { err = s.outcome(ctx, info.FullMethod, recover(), err) }()
	if ctx, err = incoming(ctx); err != nil {
		return nil, err
	}
	ctx, release := s.lifetime(ctx, info.FullMethod)
	defer release()
	return handle(ctx, req)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() { err = s.outcome(ss.Context(), info.FullMethod, recover(), err) }()
	ctx, err := incoming(ss.Context())
	if err != nil {
		return err
	}
	ctx, release := s.lifetime(ctx, info.FullMethod)
	defer release()
	return handle(srv, contextStream{ss, ctx})
}

// contextStream is a stream under another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s contextStream) Context() context.Context { return s.ctx }

// lifetime ends an endless call's context when the server stops.
func (s *Server) lifetime(ctx context.Context, method string) (context.Context, func()) {
	if !endless[method] {
		return ctx, func() {}
	}
	return s.stop.bound(ctx)
}

// incoming reads the headers into the context.
func incoming(ctx context.Context) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	first := func(key string) string {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	return withHeaders(ctx, first(headerNamespace), first(headerLease), first(headerRequestID))
}

func withHeaders(ctx context.Context, ns, leaseID, request string) (context.Context, error) {
	if ns != "" {
		if err := identifier.Validate(ns); err != nil {
			return ctx, errdefs.InvalidArgument("namespace validation: %w", err)
		}
		ctx = reqctx.WithNamespace(ctx, ns)
	}
	if leaseID != "" {
		ctx = lease.With(ctx, leaseID)
	}
	if request != "" && len(request) <= maxRequestID {
		ctx = reqctx.WithRequestID(ctx, request)
	}
	return ctx, nil
}

// maxRequestID bounds what a client may put into every log line.
const maxRequestID = 128

// outcome turns a handler's end into a status: a panic into Internal, a call that
// was cut off by the server's stop into Unavailable.
func (s *Server) outcome(ctx context.Context, method string, panicked any, err error) error {
	switch {
	case panicked != nil:
		s.log.ErrorContext(ctx, "panic in call", "method", method, "panic", panicked, "stack", string(debug.Stack()))
		err = errdefs.Internal("internal error in %s", method)
	case err == nil:
		return nil
	case endless[method] && s.stop.begun() && errors.Is(err, context.Canceled):
		err = errStopping
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "call failed",
		slog.String("method", method), slog.String("request", reqctx.RequestID(ctx)), slog.Any("err", err))
	return rpcstatus.To(err)
}

func (s *Server) ttrpcInterceptor(ctx context.Context, decode ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, handle ttrpc.Method) (resp any, err error) {
	defer func() { err = s.outcome(ctx, info.FullMethod, recover(), err) }()
	ns, _ := ttrpc.GetMetadataValue(ctx, ttrpcNamespace)
	id, _ := ttrpc.GetMetadataValue(ctx, headerRequestID)
	if ctx, err = withHeaders(ctx, ns, "", id); err != nil {
		return nil, err
	}
	return handle(ctx, decode)
}
