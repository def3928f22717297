package container

import (
	"context"
	"net/http"

	checkpointtypes "github.com/docker/docker/api/types/checkpoint"

	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
)

// checkpointer is a backend that keeps checkpoints of containers.
type checkpointer interface {
	CreateCheckpoint(ctx context.Context, ref string, o checkpointtypes.CreateOptions) error
	ListCheckpoints(ctx context.Context, ref string, o checkpointtypes.ListOptions) ([]checkpointtypes.Summary, error)
	RemoveCheckpoint(ctx context.Context, ref string, o checkpointtypes.DeleteOptions) error
}

func (r *Router) checkpoints() (checkpointer, error) {
	b, ok := r.backend.(checkpointer)
	if !ok {
		return nil, errdefs.NotImplemented("checkpoints are not available in this engine")
	}
	return b, nil
}

func (r *Router) postCheckpoint(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	b, err := r.checkpoints()
	if err != nil {
		return err
	}
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	var o checkpointtypes.CreateOptions
	if err := httputil.ReadJSON(req, &o); err != nil {
		return err
	}
	if err := b.CreateCheckpoint(ctx, route.Var(req, "name"), o); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (r *Router) getCheckpoints(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	b, err := r.checkpoints()
	if err != nil {
		return err
	}
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	list, err := b.ListCheckpoints(ctx, route.Var(req, "name"), checkpointtypes.ListOptions{CheckpointDir: req.Form.Get("dir")})
	if err != nil {
		return err
	}
	if list == nil {
		list = []checkpointtypes.Summary{}
	}
	return httputil.WriteJSON(w, http.StatusOK, list)
}

func (r *Router) deleteCheckpoint(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	b, err := r.checkpoints()
	if err != nil {
		return err
	}
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	o := checkpointtypes.DeleteOptions{CheckpointID: route.Var(req, "checkpoint"), CheckpointDir: req.Form.Get("dir")}
	if err := b.RemoveCheckpoint(ctx, route.Var(req, "name"), o); err != nil {
		return err
	}
	return httputil.NoContent(w)
}
