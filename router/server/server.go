// Package server serves the Engine API: it matches paths with and without a version,
// leads each request through the middleware to its route, writes the errors that
// handlers return, and stops without cutting off what must be finished.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"gantry/api/authorization"
	"gantry/api/reqctx"
	"gantry/api/rest"
	"gantry/router/middleware"
	"gantry/router/route"
)

// Config is what a server needs besides its routes.
type Config struct {
	Version       string // the engine's, for the Server header
	Experimental  bool
	MinAPIVersion string // the oldest version served, rest.MinVersion when empty
	Log           *slog.Logger
	Tracer        trace.Tracer // nil for no spans
	// Authorization tells who is asked about a request and its answer, nil for nobody; it
	// is nil itself when that is never so.
	Authorization func() authorization.Asker
	// Done is told of each request that went well: its row, "POST /containers/create", and
	// how long the handler took. Nil for nobody.
	Done func(row string, took time.Duration)
	// Quiet is called when for QuietAfter no request began or ended, and again only when
	// some did since; streams that go on meanwhile count for nothing. It may block.
	Quiet      func()
	QuietAfter time.Duration
}

// Server serves one set of routes on any number of listeners. It is safe for
// concurrent use.
type Server struct {
	cfg      Config
	http     *http.Server
	handlers tracker
	drain    context.Context    // ends when the server begins to stop
	startOff context.CancelFunc // ends drain
	base     context.Context    // parent of all requests; ends when the server has run out of patience
	cutOff   context.CancelFunc // ends base
}

// New returns a server for the rows of all resources. It fails for a configuration
// that cannot be served.
func New(cfg Config, resources ...route.Resource) (*Server, error) {
	if cfg.MinAPIVersion == "" {
		cfg.MinAPIVersion = rest.MinVersion
	}
	if err := rest.CheckMinVersion(cfg.MinAPIVersion); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, handlers: tracker{quiet: cfg.Quiet, after: cfg.QuietAfter}}
	s.base, s.cutOff = context.WithCancel(context.Background())
	s.drain, s.startOff = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(resources),
		BaseContext:       func(net.Listener) context.Context { return s.base },
		ReadHeaderTimeout: 5 * time.Minute, // a guard against idle half-open requests; dockerd's figure
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Handler is the whole API as one handler.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve accepts connections on l until Shutdown and then returns nil. It owns l.
func (s *Server) Serve(l net.Listener) error {
	s.handlers.add()() // the start is to be followed by quiet, too
	if err := s.http.Serve(withSpare(l)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown closes the listeners, ends the streams, and waits for all other requests
// until ctx ends; what is still going on then is cut off and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.startOff()
	err := s.http.Shutdown(ctx)
	if err == nil {
		err = s.handlers.wait(ctx) // hijacked connections, which net/http has let go
	}
	s.cutOff()
	if err != nil {
		_ = s.http.Close()
	}
	return err
}

func (s *Server) handler(resources []route.Resource) http.Handler {
	var t table
	for _, res := range resources {
		for _, rt := range res.Routes() {
			t.add(rt, s.route(s.offered(rt)))
		}
	}
	return middleware.Chain(splitVersion(t.handler()), // it also cleans the path
		middleware.RequestID(),
		middleware.Log(s.cfg.Log),
		middleware.Headers(s.cfg.Version, s.cfg.Experimental),
		middleware.Recover(s.cfg.Log),
	)
}

// route adapts one row: its version, its span, its life, its error.
func (s *Server) route(rt route.Route) http.Handler {
	name := middleware.SpanName(rt.Method, rt.Path)
	rt.Handler = s.timed(rt, name)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, ok := middleware.Version(r.Context(), w, s.cfg.MinAPIVersion)
		if !ok {
			return
		}
		if s.cfg.Tracer != nil {
			traced, end := middleware.Trace(ctx, s.cfg.Tracer, name, w, r)
			defer end()
			ctx = traced
		}
		defer s.handlers.add()()
		ctx, cancel := s.life(ctx, rt.Life)
		defer cancel()
		r = r.WithContext(ctx)
		if asker := s.asker(); asker != nil {
			s.authorized(asker, rt, w, r)
			return
		}
		if err := rt.Handler(ctx, w, r); err != nil {
			s.fail(ctx, w, r, err)
		}
	})
}

// timed tells how long the row's handler takes, if anybody wants to know.
func (s *Server) timed(rt route.Route, name string) route.Handler {
	if s.cfg.Done == nil {
		return rt.Handler
	}
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		start := time.Now()
		err := rt.Handler(ctx, w, r)
		if err == nil {
			s.cfg.Done(name, time.Since(start))
		}
		return err
	}
}

func (s *Server) life(ctx context.Context, l route.Life) (context.Context, context.CancelFunc) {
	switch l {
	case route.Detached:
		return context.WithoutCancel(ctx), func() {}
	case route.Hijack:
		ctx = context.WithoutCancel(ctx)
		fallthrough
	case route.Stream:
		ctx, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(s.drain, func() { cancel(reqctx.ErrGoingDown) })
		return ctx, func() { stop(); cancel(nil) }
	}
	return ctx, func() {}
}

// splitVersion takes "/v1.44" off the front of a path, so that every route is matched
// once, without it. A path that is not clean is redirected, as gorilla/mux does.
func splitVersion(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := cleanPath(r.URL.Path); p != r.URL.Path {
			u := *r.URL
			u.Path, u.RawPath = p, ""
			w.Header().Set("Location", u.String())
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		v, rest, ok := cutVersion(r.URL.Path)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(middleware.WithPathVersion(r.Context(), v))
		u := *r.URL
		u.Path, u.RawPath = rest, ""
		r.URL = &u
		next.ServeHTTP(w, r)
	})
}

// cleanPath is the path without "//" and dots, the form that routes match.
func cleanPath(p string) string {
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

func cutVersion(p string) (version, rest string, ok bool) {
	after, ok := strings.CutPrefix(p, "/v")
	if !ok {
		return "", "", false
	}
	end := strings.IndexByte(after, '/')
	if end <= 0 || strings.Trim(after[:end], "0123456789.") != "" {
		return "", "", false
	}
	return after[:end], after[end:], true
}
