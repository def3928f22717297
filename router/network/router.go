// Package network serves /networks: decode, one call, encode.
package network

import (
	"context"
	"net/http"
	"strconv"

	networktypes "github.com/docker/docker/api/types/network"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

// Router holds the routes of networks.
type Router struct{ backend Backend }

// New returns the routes on b.
func New(b Backend) *Router { return &Router{backend: b} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const one = "/networks/{id:.*}"
	return []route.Route{
		{Method: http.MethodGet, Path: "/networks", Handler: r.getList},
		{Method: http.MethodGet, Path: "/networks/", Handler: r.getList}, // an old form
		{Method: http.MethodGet, Path: "/networks/{id:.+}", Handler: r.getInspect},
		{Method: http.MethodPost, Path: "/networks/create", Handler: r.postCreate, Life: route.Detached},
		{Method: http.MethodPost, Path: "/networks/prune", Handler: r.postPrune},
		{Method: http.MethodPost, Path: one + "/connect", Handler: r.postConnect, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/disconnect", Handler: r.postDisconnect, Life: route.Detached},
		{Method: http.MethodDelete, Path: one, Handler: r.deleteOne, Life: route.Detached},
	}
}

func (r *Router) getList(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	f, err := httputil.Filters(req)
	if err != nil {
		return err
	}
	if err := networktypes.ValidateFilters(f); err != nil {
		return err
	}
	list, err := r.backend.List(ctx, f)
	if err != nil {
		return err
	}
	if list == nil {
		list = []networktypes.Summary{}
	}
	if !rest.NetworkListBrief.In(ctx) {
		r.addContainers(ctx, list)
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

// addContainers completes a list for the versions that show containers in it. A
// network that has gone meanwhile stays as it was listed.
func (r *Router) addContainers(ctx context.Context, list []networktypes.Summary) {
	for i := range list {
		if full, err := r.backend.Inspect(ctx, list[i].ID, networktypes.InspectOptions{}); err == nil {
			list[i].Containers = full.Containers
		}
	}
}

func (r *Router) getInspect(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	q := req.URL.Query()
	o := networktypes.InspectOptions{Scope: q.Get("scope")}
	if v := q.Get("verbose"); v != "" {
		var err error
		if o.Verbose, err = strconv.ParseBool(v); err != nil {
			return errdefs.InvalidArgument("invalid value for verbose: %s: %w", v, err)
		}
	}
	n, err := r.backend.Inspect(ctx, route.Var(req, "id"), o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, n)
}

func (r *Router) postCreate(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	var c networktypes.CreateRequest
	if err := httputil.ReadJSON(req, &c); err != nil {
		return err
	}
	if !rest.EnableIPv4.In(ctx) {
		c.EnableIPv4 = nil
	}
	resp, err := r.backend.Create(ctx, c)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, resp)
}

func (r *Router) postConnect(ctx context.Context, _ http.ResponseWriter, req *http.Request) error {
	var o networktypes.ConnectOptions
	if err := httputil.ReadJSON(req, &o); err != nil {
		return err
	}
	return r.backend.Connect(ctx, route.Var(req, "id"), o)
}

func (r *Router) postDisconnect(ctx context.Context, _ http.ResponseWriter, req *http.Request) error {
	var o networktypes.DisconnectOptions
	if err := httputil.ReadJSON(req, &o); err != nil {
		return err
	}
	return r.backend.Disconnect(ctx, route.Var(req, "id"), o)
}

func (r *Router) deleteOne(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := r.backend.Remove(ctx, route.Var(req, "id")); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postPrune(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	return httputil.Prune(ctx, w, req, r.backend.Prune)
}
