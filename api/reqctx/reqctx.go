// Package reqctx carries what belongs to one request through a context: its id,
// the core's namespace, the API version the client speaks and attributes for log
// lines. It crosses gRPC and ttrpc as metadata; see libctr/client and libctr/server.
package reqctx

import (
	"context"
	"log/slog"

	"gantry/api/errdefs"
)

// ErrGoingDown is the cause of the end of a request's context where the daemon has been
// told to end; the client may still be there and come back to the next daemon.
var ErrGoingDown = errdefs.Unavailable("the daemon is going down")

type key int

const (
	keyRequestID key = iota
	keyNamespace
	keyVersion
	keyAttrs
)

// WithRequestID returns ctx with the id that every hop of one request logs.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, keyRequestID, id)
}

// RequestID returns the id set by WithRequestID, or "".
func RequestID(ctx context.Context) string { s, _ := ctx.Value(keyRequestID).(string); return s }

// WithNamespace returns ctx with the core's namespace for the calls made under it.
func WithNamespace(ctx context.Context, ns string) context.Context {
	return context.WithValue(ctx, keyNamespace, ns)
}

// Namespace returns the namespace set by WithNamespace, or "".
func Namespace(ctx context.Context) string { s, _ := ctx.Value(keyNamespace).(string); return s }

// WithVersion returns ctx with the Engine API version ("1.51") of the request.
func WithVersion(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, keyVersion, v)
}

// Version returns the API version set by WithVersion, or "".
func Version(ctx context.Context) string { s, _ := ctx.Value(keyVersion).(string); return s }

// WithAttrs returns ctx with further attributes for the log lines of this request.
func WithAttrs(ctx context.Context, attrs ...slog.Attr) context.Context {
	old := Attrs(ctx)
	return context.WithValue(ctx, keyAttrs, append(old[:len(old):len(old)], attrs...))
}

// Attrs returns the attributes added by WithAttrs, oldest first.
func Attrs(ctx context.Context) []slog.Attr { a, _ := ctx.Value(keyAttrs).([]slog.Attr); return a }
