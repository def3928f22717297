// Package build answers the routes of image builds. There is no builder yet, and the
// answers say so.
package build

import (
	"context"
	"net/http"

	"gantry/api/errdefs"
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
		{Method: http.MethodPost, Path: "/build/prune", Handler: notThere},
		{Method: http.MethodPost, Path: "/build/cancel", Handler: notThere},
	}
}

func notThere(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.NotImplemented("building images is not available in this engine yet")
}
