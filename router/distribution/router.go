// Package distribution serves questions about images that are in a registry.
package distribution

import (
	"context"
	"net/http"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"

	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
)

// Backend is what the routes call.
type Backend interface {
	// Distribution asks the registry for the descriptor and platforms of ref, a
	// familiar name with a tag or digest.
	Distribution(ctx context.Context, ref string, auth *registry.AuthConfig) (registry.DistributionInspect, error)
}

// Router holds the routes.
type Router struct{ backend Backend }

// New returns the routes on b; with nil they say that nothing is there.
func New(b Backend) *Router { return &Router{backend: b} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	return []route.Route{
		{Method: http.MethodGet, Path: "/distribution/{name:.*}/json", Handler: r.getInspect},
	}
}

func (r *Router) getInspect(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	name := route.Var(req, "name")
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return errdefs.InvalidArgument("no manifest found for full image ID")
	}
	if r.backend == nil {
		return errdefs.NotImplemented("asking a registry for an image is not available in this engine yet")
	}
	found, err := r.backend.Distribution(ctx, reference.FamiliarString(reference.TagNameOnly(named)), httputil.Auth(req))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, found)
}
