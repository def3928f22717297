// Package session answers the routes that clients of BuildKit open. There is no
// builder yet, and the answers say so.
package session

import (
	"context"
	"net/http"

	"gantry/api/errdefs"
	"gantry/router/route"
)

// Router holds the routes of build sessions.
type Router struct{}

// New returns the routes.
func New() *Router { return &Router{} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	return []route.Route{
		{Method: http.MethodPost, Path: "/session", Handler: notThere},
		{Method: http.MethodPost, Path: "/grpc", Handler: notThere},
	}
}

func notThere(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.NotImplemented("build sessions are not available in this engine yet")
}
