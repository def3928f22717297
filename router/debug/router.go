// Package debug serves the process's own profiles and counters. It is given to the
// server only when debugging is on.
package debug

import (
	"context"
	"expvar"
	"net/http"
	"net/http/pprof"

	"gantry/router/route"
)

// Router holds the routes.
type Router struct{}

// New returns the routes.
func New() *Router { return &Router{} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const base = "/debug/pprof/"
	return []route.Route{
		{Method: http.MethodGet, Path: "/debug/vars", Handler: plain(expvar.Handler())},
		{Method: http.MethodGet, Path: base, Handler: plain(http.HandlerFunc(pprof.Index))},
		{Method: http.MethodGet, Path: base + "cmdline", Handler: plain(http.HandlerFunc(pprof.Cmdline))},
		{Method: http.MethodGet, Path: base + "profile", Handler: plain(http.HandlerFunc(pprof.Profile)), Life: route.Stream},
		{Method: http.MethodGet, Path: base + "symbol", Handler: plain(http.HandlerFunc(pprof.Symbol))},
		{Method: http.MethodGet, Path: base + "trace", Handler: plain(http.HandlerFunc(pprof.Trace)), Life: route.Stream},
		{Method: http.MethodGet, Path: base + "{name}", Handler: named},
	}
}

func plain(h http.Handler) route.Handler {
	return func(_ context.Context, w http.ResponseWriter, req *http.Request) error {
		h.ServeHTTP(w, req)
		return nil
	}
}

func named(_ context.Context, w http.ResponseWriter, req *http.Request) error {
	pprof.Handler(route.Var(req, "name")).ServeHTTP(w, req)
	return nil
}
