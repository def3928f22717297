// Package plugin answers the routes of managed plugins for an engine that has none.
package plugin

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types"

	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
)

// Router holds the routes of managed plugins.
type Router struct{}

// New returns the routes.
func New() *Router { return &Router{} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const one = "/plugins/{name:.*}"
	return []route.Route{
		{Method: http.MethodGet, Path: "/plugins", Handler: getList},
		{Method: http.MethodGet, Path: "/plugins/privileges", Handler: notThere},
		{Method: http.MethodPost, Path: "/plugins/pull", Handler: notThere},
		{Method: http.MethodPost, Path: "/plugins/create", Handler: notThere},
		{Method: http.MethodGet, Path: one + "/json", Handler: notFound},
		{Method: http.MethodPost, Path: one + "/enable", Handler: notFound},
		{Method: http.MethodPost, Path: one + "/disable", Handler: notFound},
		{Method: http.MethodPost, Path: one + "/push", Handler: notFound},
		{Method: http.MethodPost, Path: one + "/upgrade", Handler: notFound},
		{Method: http.MethodPost, Path: one + "/set", Handler: notFound},
		{Method: http.MethodDelete, Path: one, Handler: notFound},
	}
}

func getList(_ context.Context, w http.ResponseWriter, _ *http.Request) error {
	return httputil.WriteJSON(w, http.StatusOK, types.PluginsListResponse{})
}

func notFound(_ context.Context, _ http.ResponseWriter, req *http.Request) error {
	return errdefs.NotFound("plugin %q not found", route.Var(req, "name"))
}

func notThere(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.NotImplemented("managed plugins are not available in this engine")
}
