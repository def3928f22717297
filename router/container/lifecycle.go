package container

import (
	"context"
	"fmt"
	"net/http"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

func (r *Router) postStart(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	// A body once held the HostConfig. An empty JSON object still passes, as clients send it.
	if req.ContentLength > 7 || req.ContentLength == -1 {
		return errdefs.InvalidArgument("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	o := containertypes.StartOptions{
		CheckpointID:  req.Form.Get("checkpoint"),
		CheckpointDir: req.Form.Get("checkpoint-dir"),
	}
	if err := r.backend.Start(ctx, route.Var(req, "name"), o); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postStop(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	o, err := stopOptions(ctx, req)
	if err != nil {
		return err
	}
	if err := r.backend.Stop(ctx, route.Var(req, "name"), o); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postRestart(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	o, err := stopOptions(ctx, req)
	if err != nil {
		return err
	}
	if err := r.backend.Restart(ctx, route.Var(req, "name"), o); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func stopOptions(ctx context.Context, req *http.Request) (o containertypes.StopOptions, err error) {
	if err := httputil.ParseForm(req); err != nil {
		return o, err
	}
	if rest.StopSignal.In(ctx) {
		o.Signal = req.Form.Get("signal")
	}
	seconds, given, err := httputil.Int(req, "t")
	if given {
		o.Timeout = &seconds
	}
	return o, err
}

func (r *Router) postKill(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	name := route.Var(req, "name")
	if err := r.backend.Kill(ctx, name, req.Form.Get("signal")); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", name, err)
	}
	return httputil.NoContent(w)
}

func (r *Router) postPause(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := r.backend.Pause(ctx, route.Var(req, "name")); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postUnpause(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := r.backend.Unpause(ctx, route.Var(req, "name")); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postRename(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	if err := r.backend.Rename(ctx, route.Var(req, "name"), req.Form.Get("name")); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postUpdate(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	var u containertypes.UpdateConfig
	if err := httputil.ReadJSON(req, &u); err != nil {
		return err
	}
	if !rest.UpdatePidsLimit.In(ctx) {
		u.PidsLimit = nil
	}
	if rest.NoKernelMemory.In(ctx) {
		u.KernelMemory = 0 //nolint:staticcheck // served to older versions
	}
	if u.PidsLimit != nil && *u.PidsLimit < 0 {
		*u.PidsLimit = 0 // any negative number has always meant unlimited
	}
	resp, err := r.backend.Update(ctx, route.Var(req, "name"), u)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, resp)
}

func (r *Router) deleteOne(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	o := containertypes.RemoveOptions{
		RemoveVolumes: httputil.Bool(req, "v"),
		RemoveLinks:   httputil.Bool(req, "link"),
		Force:         httputil.Bool(req, "force"),
	}
	if err := r.backend.Remove(ctx, route.Var(req, "name"), o); err != nil {
		return err
	}
	return httputil.NoContent(w)
}

func (r *Router) postPrune(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	return httputil.Prune(ctx, w, req, r.backend.Prune)
}
