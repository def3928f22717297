// Package swarm answers the routes of orchestration for an engine that is not part of
// a swarm.
package swarm

import (
	"context"
	"net/http"

	"gantry/api/errdefs"
	"gantry/router/route"
)

// Router holds the routes of orchestration.
type Router struct{}

// New returns the routes.
func New() *Router { return &Router{} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	routes := []route.Route{
		{Method: http.MethodPost, Path: "/swarm/init", Handler: cannotJoin},
		{Method: http.MethodPost, Path: "/swarm/join", Handler: cannotJoin},
		{Method: http.MethodPost, Path: "/swarm/leave", Handler: noSwarm},
		{Method: http.MethodPost, Path: "/swarm/unlock", Handler: noSwarm},
		{Method: http.MethodPost, Path: "/swarm/update", Handler: noManager},
		{Method: http.MethodGet, Path: "/swarm", Handler: noManager},
		{Method: http.MethodGet, Path: "/swarm/unlockkey", Handler: noManager},
		{Method: http.MethodGet, Path: "/services/{id}/logs", Handler: noManager},
		{Method: http.MethodGet, Path: "/tasks/{id}/logs", Handler: noManager},
	}
	for _, kind := range []string{"nodes", "services", "tasks", "secrets", "configs"} {
		routes = append(routes,
			route.Route{Method: http.MethodGet, Path: "/" + kind, Handler: noManager},
			route.Route{Method: http.MethodGet, Path: "/" + kind + "/{id}", Handler: noManager},
		)
		if kind == "tasks" {
			continue
		}
		routes = append(routes,
			route.Route{Method: http.MethodDelete, Path: "/" + kind + "/{id}", Handler: noManager},
			route.Route{Method: http.MethodPost, Path: "/" + kind + "/{id}/update", Handler: noManager},
		)
		if kind != "nodes" {
			routes = append(routes, route.Route{Method: http.MethodPost, Path: "/" + kind + "/create", Handler: noManager})
		}
	}
	return routes
}

func noManager(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.Unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

func noSwarm(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.Unavailable("This node is not part of a swarm")
}

func cannotJoin(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.Unavailable("swarm mode is not available in this engine")
}
