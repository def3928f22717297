// Package volume serves /volumes: decode, one call, encode.
package volume

import (
	"context"
	"fmt"
	"net/http"

	"github.com/docker/docker/api/types/filters"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

// Router holds the routes of volumes.
type Router struct{ backend Backend }

// New returns the routes on b.
func New(b Backend) *Router { return &Router{backend: b} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const one = "/volumes/{name:.*}"
	return []route.Route{
		{Method: http.MethodGet, Path: "/volumes", Handler: r.getList},
		{Method: http.MethodGet, Path: one, Handler: r.getInspect},
		{Method: http.MethodPost, Path: "/volumes/create", Handler: r.postCreate, Life: route.Detached},
		{Method: http.MethodPost, Path: "/volumes/prune", Handler: r.postPrune},
		{Method: http.MethodPut, Path: one, Handler: r.putUpdate},
		{Method: http.MethodDelete, Path: one, Handler: r.deleteOne, Life: route.Detached},
	}
}

func (r *Router) getList(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	f, err := httputil.Filters(req)
	if err != nil {
		return fmt.Errorf("error reading volume filters: %w", err)
	}
	list, warnings, err := r.backend.List(ctx, f)
	if err != nil {
		return err
	}
	if list == nil {
		list = []*volumetypes.Volume{}
	}
	return httputil.WriteJSON(w, http.StatusOK, volumetypes.ListResponse{Volumes: list, Warnings: warnings})
}

func (r *Router) getInspect(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	v, err := r.backend.Inspect(ctx, route.Var(req, "name"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, v)
}

func (r *Router) postCreate(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	var o volumetypes.CreateOptions
	if err := httputil.ReadJSON(req, &o); err != nil {
		return err
	}
	if o.ClusterVolumeSpec != nil && rest.ClusterVolumes.In(ctx) {
		return errdefs.Unavailable(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	}
	v, err := r.backend.Create(ctx, o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, v)
}

// putUpdate is for volumes of a swarm.
func (r *Router) putUpdate(context.Context, http.ResponseWriter, *http.Request) error {
	return errdefs.Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
}

func (r *Router) deleteOne(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	if err := r.backend.Remove(ctx, route.Var(req, "name"), httputil.Bool(req, "force")); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postPrune(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	return httputil.Prune(ctx, w, req, func(ctx context.Context, f filters.Args) (*volumetypes.PruneReport, error) {
		if !rest.PruneAnonymous.In(ctx) {
			f.Add("all", "true")
		}
		return r.backend.Prune(ctx, f)
	})
}
