package server

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Local answers the unary calls of clients in this process: the same handlers behind
// the same interceptors, without a wire. Messages are copied, so that neither side sees
// what the other does to its own. A call returns when its context ends, as on a
// connection; its handler then comes to its end by itself.
type Local struct {
	methods   map[string]localMethod // by full name; complete before the first call
	intercept grpc.UnaryServerInterceptor

	mu      sync.Mutex
	stopped bool           // guarded by mu; no call begins any more
	calls   sync.WaitGroup // handlers that run; added to under mu
}

type localMethod struct {
	grpc.MethodDesc
	service any
}

func newLocal(intercept ...grpc.UnaryServerInterceptor) *Local {
	return &Local{methods: map[string]localMethod{}, intercept: chain(intercept)}
}

// chain makes one interceptor of several, the first outermost.
func chain(all []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		for i := len(all) - 1; i >= 0; i-- {
			next, inner := all[i], handle
			handle = func(ctx context.Context, req any) (any, error) { return next(ctx, req, info, inner) }
		}
		return handle(ctx, req)
	}
}

// RegisterService implements grpc.ServiceRegistrar.
func (l *Local) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		l.methods["/"+desc.ServiceName+"/"+m.MethodName] = localMethod{m, service}
	}
}

// Invoke has the shape of grpc.ClientConnInterface's. Headers are those of the outgoing
// metadata; options mean nothing here.
func (l *Local) Invoke(ctx context.Context, method string, req, reply any, _ ...grpc.CallOption) error {
	m, ok := l.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", strings.TrimPrefix(method, "/"))
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	if !l.begin() {
		return status.Error(codes.Unavailable, errStopping.Error())
	}
	headers, _ := metadata.FromOutgoingContext(ctx)
	in := metadata.NewOutgoingContext(metadata.NewIncomingContext(ctx, headers), nil)
	type answer struct {
		message any
		err     error
	}
	done := make(chan answer, 1)
	go func() { // ends with the handler
		defer l.calls.Done()
		message, err := m.Handler(m.service, in, func(to any) error { return copyMessage(to, req) }, l.intercept)
		done <- answer{message, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return a.err
		}
		return copyMessage(reply, a.message)
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (l *Local) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.calls.Add(1)
	return true
}

// drain lets no call begin and waits for those that run, or for ctx.
func (l *Local) drain(ctx context.Context) {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the calls
		defer close(done)
		l.calls.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func copyMessage(to, from any) error {
	dst, ok := to.(proto.Message)
	src, also := from.(proto.Message)
	if !ok || !also {
		return status.Errorf(codes.Internal, "%T and %T: no protobuf messages", to, from)
	}
	if len(src.ProtoReflect().GetUnknown()) > 0 { // what is there encoded; see wire.Embed
		raw, err := proto.Marshal(src)
		if err != nil {
			return err
		}
		return proto.Unmarshal(raw, dst)
	}
	proto.Reset(dst)
	proto.Merge(dst, src)
	return nil
}

// registrars register a service with each.
type registrars []grpc.ServiceRegistrar

func (r registrars) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, one := range r {
		one.RegisterService(desc, service)
	}
}
