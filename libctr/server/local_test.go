package server

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestLocal pins what a call in the process has in common with one on a connection: it
// sees the caller's headers and not its messages themselves, is intercepted, returns
// with its context, and is refused once the server stops, which waits for it.
func TestLocal(t *testing.T) {
	var asked, intercepted *wrapperspb.StringValue
	hold := make(chan struct{})
	l := newLocal(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		intercepted = req.(*wrapperspb.StringValue)
		return handle(ctx, req)
	})
	l.RegisterService(&grpc.ServiceDesc{ServiceName: "s", Methods: []grpc.MethodDesc{
		{MethodName: "Echo", Handler: func(_ any, ctx context.Context, decode func(any) error, via grpc.UnaryServerInterceptor) (any, error) {
			asked = new(wrapperspb.StringValue)
			if err := decode(asked); err != nil {
				return nil, err
			}
			return via(ctx, asked, &grpc.UnaryServerInfo{FullMethod: "/s/Echo"}, func(ctx context.Context, req any) (any, error) {
				if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("k")) > 0 {
					asked.Value += md.Get("k")[0]
				}
				return asked, nil
			})
		}},
		{MethodName: "Hang", Handler: func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
			<-hold
			return new(wrapperspb.StringValue), nil
		}},
	}}, nil)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "k", "v")
	req, reply := wrapperspb.String("a"), wrapperspb.String("old")
	if err := l.Invoke(ctx, "/s/Echo", req, reply); err != nil || reply.Value != "av" {
		t.Fatalf("%v, %v", reply, err)
	}
	if intercepted != asked || asked == req || req.Value != "a" || reply == asked {
		t.Errorf("the handler's message is %p %v, the interceptor's %p, the caller's %p %v", asked, asked, intercepted, req, req)
	}
	if err := l.Invoke(ctx, "/s/None", req, reply); status.Code(err) != codes.Unimplemented {
		t.Errorf("no such method: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := l.Invoke(short, "/s/Hang", req, reply); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a handler that hangs: %v", err)
	}
	if l.drain(short); !l.stopped {
		t.Error("drained, and not stopped")
	}
	if err := l.Invoke(ctx, "/s/Echo", req, reply); status.Code(err) != codes.Unavailable {
		t.Errorf("after the stop: %v", err)
	}
	close(hold)
	l.drain(t.Context())
}
