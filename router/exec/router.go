// Package exec serves /exec and the making of execs under /containers.
package exec

import (
	"context"
	"net/http"

	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

// Router holds the routes of execs.
type Router struct{ backend Backend }

// New returns the routes on b.
func New(b Backend) *Router { return &Router{backend: b} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	return []route.Route{
		{Method: http.MethodPost, Path: "/containers/{name:.*}/exec", Handler: r.postCreate, Life: route.Detached},
		{Method: http.MethodPost, Path: "/exec/{id:.*}/start", Handler: r.postStart, Life: route.Hijack},
		{Method: http.MethodPost, Path: "/exec/{id:.*}/resize", Handler: r.postResize},
		{Method: http.MethodGet, Path: "/exec/{id:.*}/json", Handler: r.getInspect},
	}
}

func (r *Router) postCreate(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	var o containertypes.ExecOptions
	if err := httputil.ReadJSON(req, &o); err != nil {
		return err
	}
	if len(o.Cmd) == 0 {
		return errdefs.InvalidArgument("No exec command specified")
	}
	if !rest.ConsoleSize.In(ctx) {
		o.ConsoleSize = nil
	}
	id, err := r.backend.Create(ctx, route.Var(req, "name"), o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, containertypes.ExecCreateResponse{ID: id})
}

func (r *Router) postStart(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	var body containertypes.ExecStartOptions
	if err := httputil.ReadJSON(req, &body); err != nil {
		return err
	}
	o := apicontainer.ExecStartOptions{Detach: body.Detach, Tty: body.Tty}
	if body.Tty && rest.ConsoleSize.In(ctx) {
		o.ConsoleSize = body.ConsoleSize
	}
	id := route.Var(req, "id")
	if err := r.backend.Ready(ctx, id); err != nil {
		return err
	}
	if o.Detach {
		return r.backend.Start(context.WithoutCancel(ctx), id, o)
	}
	up := httputil.NewUpgrade(ctx, w, req)
	defer up.Close()
	s := &startStream{up: up}
	o.Open = s.open
	return s.finish(r.backend.Start(ctx, id, o), !o.Tty)
}

func (r *Router) postResize(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	height, width, err := httputil.Size(req)
	if err != nil {
		return err
	}
	return r.backend.Resize(ctx, route.Var(req, "id"), height, width)
}

func (r *Router) getInspect(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	e, err := r.backend.Inspect(ctx, route.Var(req, "id"))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, e)
}
