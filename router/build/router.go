// Package build answers the routes of image builds. There is no builder yet, and the
// answers say so; nor is there a cache.
package build

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/build"

	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
)

// Router holds the routes of builds.
type Router struct{}

// New returns the routes.
func New() *Router { return &Router{} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	return []route.Route{
		{Method: http.MethodPost, Path: "/build", Handler: notThere, Body: route.Upload},
		{Method: http.MethodPost, Path: "/build/prune", Handler: prune},
		{Method: http.MethodPost, Path: "/build/cancel", Handler: notThere},
	}
}

// prune finds nothing: without a builder there is no cache. "docker system prune" asks.
func prune(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
	return httputil.WriteJSON(w, http.StatusOK, build.CachePruneReport{})
}

func notThere(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.NotImplemented("building images is not available in this engine yet")
}
