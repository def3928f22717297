package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"gantry/api/reqctx"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/lease"
)

// The headers that cross the API; the first two are containerd's.
const (
	headerNamespace = "containerd-namespace"
	headerLease     = "containerd-lease"
	headerRequestID = "gantry-request-id"
)

// outgoing returns ctx with its namespace (or the default one), lease and
// request id as headers. Headers the caller has set itself stay.
func outgoing(ctx context.Context, namespace string) context.Context {
	if ns := reqctx.Namespace(ctx); ns != "" {
		namespace = ns
	}
	set, _ := metadata.FromOutgoingContext(ctx)
	var pairs []string
	add := func(key, value string) {
		if value != "" && len(set.Get(key)) == 0 {
			pairs = append(pairs, key, value)
		}
	}
	add(headerNamespace, namespace)
	add(headerLease, lease.From(ctx))
	add(headerRequestID, reqctx.RequestID(ctx))
	if len(pairs) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// patience bounds a call whose context has no deadline, so that nobody waits for ever
// for a core that is stuck. It is longer than any bound that the core has itself.
const patience = 5 * time.Minute

// brief are the calls that one shim answers at once or not at all. Our core gives such a
// shim up before; another may wait for it as long as its client does.
var brief = map[string]time.Duration{
	"/containerd.services.tasks.v1.Tasks/Get":           12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/Kill":          20 * time.Second,
	"/containerd.services.tasks.v1.Tasks/Exec":          12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/ResizePty":     12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/CloseIO":       12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/Pause":         12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/Resume":        12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/ListPids":      12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/Update":        12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/Metrics":       12 * time.Second,
	"/containerd.services.tasks.v1.Tasks/DeleteProcess": time.Minute,
}

// unbounded are the calls that take as long as a process runs or as there is data.
var unbounded = map[string]bool{
	"/containerd.services.tasks.v1.Tasks/Wait":            true,
	"/containerd.services.tasks.v1.Tasks/Checkpoint":      true,
	"/containerd.services.diff.v1.Diff/Apply":             true,
	"/containerd.services.diff.v1.Diff/Diff":              true,
	"/containerd.services.transfer.v1.Transfer/Transfer":  true,
	"/containerd.services.snapshots.v1.Snapshots/Commit":  true, // syncs what was written
	"/containerd.services.snapshots.v1.Snapshots/Cleanup": true,
	"/containerd.services.images.v1.Images/Delete":        true, // may collect garbage
	"/containerd.services.leases.v1.Leases/Delete":        true, // the same
	"/containerd.services.sandbox.v1.Controller/Wait":     true,
}

// bounded is ctx with an end, for a call whose caller sets none; the call's error goes
// through told. The end does not cross the wire as a deadline does: the server would then
// answer first, with whatever it makes of that.
func bounded(ctx context.Context, method string) (_ context.Context, told func(error) error) {
	if _, has := ctx.Deadline(); has || unbounded[method] {
		return ctx, func(err error) error { return err }
	}
	d, ok := brief[method]
	if !ok {
		d = patience
	}
	ctx, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() { end(context.DeadlineExceeded) })
	return ctx, func(err error) error {
		timer.Stop()
		late := errors.Is(context.Cause(ctx), context.DeadlineExceeded)
		end(nil)
		if err != nil && late {
			return context.DeadlineExceeded
		}
		return err
	}
}

func unary(namespace string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, told := bounded(ctx, method)
		return told(rpcstatus.From(invoke(outgoing(ctx, namespace), method, req, reply, cc, opts...)))
	}
}

func stream(namespace string) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := open(outgoing(ctx, namespace), desc, cc, method, opts...)
		if err != nil {
			return nil, rpcstatus.From(err)
		}
		return classedStream{s}, nil
	}
}

// classedStream gives the errors of a stream their class; io.EOF stays itself.
type classedStream struct{ grpc.ClientStream }

func (s classedStream) SendMsg(m any) error { return streamError(s.ClientStream.SendMsg(m)) }
func (s classedStream) RecvMsg(m any) error { return streamError(s.ClientStream.RecvMsg(m)) }
func (s classedStream) CloseSend() error    { return streamError(s.ClientStream.CloseSend()) }

func (s classedStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, streamError(err)
}

func streamError(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	return rpcstatus.From(err)
}

// receive calls fn for each message of a stream until its end.
func receive[M any](recv func() (M, error), fn func(M) error) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}
