// Package build answers the routes of image builds. There is no builder yet, and the
// answers say so; nor is there a cache.
package build

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/build"

	"gantry/api/errdefs"
	"gantry/api/rest"
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
func prune(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := checkPrune(ctx, req); err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, build.CachePruneReport{})
}

// checkPrune refuses what no builder could understand.
func checkPrune(ctx context.Context, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	if _, err := httputil.Filters(req); err != nil {
		return err
	}
	sizes := []string{"keep-storage"}
	if rest.BuildPruneSpace.In(ctx) {
		sizes = []string{"reserved-space", "max-used-space", "min-free-space"}
		if reserved := req.Form.Get("reserved-space"); reserved == "" || reserved == "0" {
			sizes = append(sizes, "keep-storage") // its older name
		}
	}
	for _, key := range sizes {
		if _, _, err := httputil.Int(req, key); err != nil {
			return errdefs.InvalidArgument("%s is in bytes and expects an integer, got %v: %w", key, req.Form.Get(key), err)
		}
	}
	return nil
}

func notThere(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.NotImplemented("building images is not available in this engine yet")
}
