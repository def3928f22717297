package server

import (
	"context"
	"net/http"

	"gantry/api/errdefs"
	"gantry/router/route"
)

// offered is the row, or what answers in its place while experimental features are off.
func (s *Server) offered(rt route.Route) route.Route {
	if rt.Experimental && !s.cfg.Experimental {
		rt.Handler, rt.Life = notOffered, route.Request
	}
	return rt
}

func notOffered(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.NotImplemented("This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.")
}
