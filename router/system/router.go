// Package system serves what concerns the engine as a whole: ping, version, info,
// events, disk usage, registry log-in.
package system

import (
	"context"
	"net/http"

	"gantry/router/route"
)

// Router holds the routes of the system.
type Router struct{ backend Backend }

// New returns the routes on b.
func New(b Backend) *Router { return &Router{backend: b} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	return []route.Route{
		{Method: http.MethodOptions, Path: "/{any:.*}", Handler: options},
		{Method: http.MethodGet, Path: "/_ping", Handler: ping},
		{Method: http.MethodHead, Path: "/_ping", Handler: ping},
		{Method: http.MethodGet, Path: "/version", Handler: r.getVersion},
		{Method: http.MethodGet, Path: "/info", Handler: r.getInfo},
		{Method: http.MethodGet, Path: "/events", Handler: r.getEvents, Life: route.Stream},
		{Method: http.MethodGet, Path: "/system/df", Handler: r.getDiskUsage},
		{Method: http.MethodPost, Path: "/auth", Handler: r.postAuth, Body: route.Credentials},
	}
}

func options(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusOK)
	return nil
}
