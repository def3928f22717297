// Package debug serves the process's own profiles and counters, while debugging is on.
package debug

import (
	"context"
	"expvar"
	"net/http"
	"net/http/pprof"

	"gantry/router/httputil"
	"gantry/router/route"
)

// Router holds the routes.
type Router struct{ on func() bool }

// New returns the routes; on says whether they are there now.
func New(on func() bool) *Router { return &Router{on} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const base = "/debug/pprof/"
	rows := []route.Route{
		{Method: http.MethodGet, Path: "/debug/vars", Handler: plain(expvar.Handler())},
		{Method: http.MethodGet, Path: base, Handler: plain(http.HandlerFunc(pprof.Index))},
		{Method: http.MethodGet, Path: base + "cmdline", Handler: plain(http.HandlerFunc(pprof.Cmdline))},
		{Method: http.MethodGet, Path: base + "profile", Handler: plain(http.HandlerFunc(pprof.Profile)), Life: route.Stream},
		{Method: http.MethodGet, Path: base + "symbol", Handler: plain(http.HandlerFunc(pprof.Symbol))},
		{Method: http.MethodGet, Path: base + "trace", Handler: plain(http.HandlerFunc(pprof.Trace)), Life: route.Stream},
		{Method: http.MethodGet, Path: base + "{name}", Handler: named},
	}
	for i := range rows {
		rows[i].Handler = r.whileOn(rows[i].Handler)
	}
	return rows
}

func (r *Router) whileOn(h route.Handler) route.Handler {
	return func(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
		if !r.on() {
			httputil.PageNotFound(w, req)
			return nil
		}
		return h(ctx, w, req)
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
