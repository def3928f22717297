// Package middleware is what every request passes on its way to a route: its id, its
// log line, the standing headers, the guard against panics, the API version and the
// span.
package middleware

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/api/rest"
	"gantry/router/httputil"
)

// Middleware wraps a handler.
type Middleware func(http.Handler) http.Handler

// Chain applies m to h, the first one outermost.
func Chain(h http.Handler, m ...Middleware) http.Handler {
	for i := len(m) - 1; i >= 0; i-- {
		h = m[i](h)
	}
	return h
}

// Headers sets what every answer carries, errors included.
func Headers(engine string, experimental bool) Middleware {
	server := fmt.Sprintf("Gantry/%s (%s)", engine, runtime.GOOS)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Api-Version", rest.MaxVersion)
			h.Set("Docker-Experimental", strconv.FormatBool(experimental))
			h.Set("Ostype", runtime.GOOS)
			h.Set("Server", server)
			next.ServeHTTP(w, r)
		})
	}
}

// RequestID gives the request an id that every hop logs, and the answer an observer.
func RequestID() Middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := reqctx.WithRequestID(r.Context(), newID())
			next.ServeHTTP(NewObserver(w), r.WithContext(ctx))
		})
	}
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Log writes one debug line per request, at its end. The query is part of it, bodies
// and headers are not: they hold credentials.
func Log(log *slog.Logger) Middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, start := r.Context(), time.Now()
			if !log.Enabled(ctx, slog.LevelDebug) {
				next.ServeHTTP(w, r)
				return
			}
			defer func() {
				log.DebugContext(ctx, "request", "method", r.Method, "uri", r.RequestURI,
					"status", observed(w).Status(), "took", time.Since(start), "request", reqctx.RequestID(ctx))
			}()
			next.ServeHTTP(w, r)
		})
	}
}

// Recover turns a panic into a logged 500, or, when the answer has begun, into a
// broken connection.
func Recover(log *slog.Logger) Middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if p == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
					panic(p)
				}
				log.ErrorContext(r.Context(), "handler panicked", "method", r.Method, "uri", r.RequestURI,
					"panic", p, "stack", string(debug.Stack()))
				if o := observed(w); o.Hijacked() {
					return
				} else if o.Committed() {
					panic(http.ErrAbortHandler)
				}
				httputil.WriteError(w, errdefs.Internal("internal error while handling %s %s", r.Method, r.URL.Path))
			}()
			next.ServeHTTP(w, r)
		})
	}
}

type pathVersion struct{}

// WithPathVersion notes the version that stood in the request's path; "" for none.
func WithPathVersion(ctx context.Context, v string) context.Context {
	return context.WithValue(ctx, pathVersion{}, v)
}

// Version refuses versions that are not served, and says so, or returns the context that
// tells the handlers the one that is asked for. Clients older than any version served get
// plain text, as they expect. It is no Middleware, nor is Trace: each of those costs
// a copy of the request.
func Version(ctx context.Context, w http.ResponseWriter, min string) (_ context.Context, ok bool) {
	v, _ := ctx.Value(pathVersion{}).(string)
	if v == "" {
		v = rest.MaxVersion
	}
	err := rest.CheckVersion(v, min)
	switch {
	case err == nil:
		return reqctx.WithVersion(ctx, v), true
	case rest.CheckVersion(v, rest.MinVersion) != nil && !newer(v):
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		httputil.WriteError(w, errdefs.WithClass(errdefs.ErrInvalidArgument, err))
	}
	return nil, false
}

func newer(v string) bool { return rest.Change{Since: rest.MaxVersion}.InVersion(v) }
