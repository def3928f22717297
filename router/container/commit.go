package container

import (
	"context"
	"net/http"

	"github.com/distribution/reference"
	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/router/httputil"
)

// committer is a backend that makes images from containers.
type committer interface {
	// Commit returns the id of the new image. Reference is a familiar name with a tag, or "".
	Commit(ctx context.Context, ref string, o containertypes.CommitOptions) (id string, err error)
}

func (r *Router) postCommit(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	var body containertypes.CreateRequest
	if err := httputil.ReadJSON(req, &body); err != nil {
		return err
	}
	o := containertypes.CommitOptions{
		Comment: req.Form.Get("comment"),
		Author:  req.Form.Get("author"),
		Changes: req.Form["changes"],
		Pause:   httputil.BoolOr(req, "pause", true),
		Config:  body.Config,
	}
	named, err := httputil.RepoTag(req.Form.Get("repo"), req.Form.Get("tag"))
	if err != nil {
		return err
	}
	if named != nil {
		o.Reference = reference.FamiliarString(named)
	}
	b, ok := r.backend.(committer)
	if !ok {
		return errdefs.NotImplemented("commit is not available in this engine yet")
	}
	id, err := b.Commit(ctx, req.Form.Get("container"), o)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusCreated, containertypes.CommitResponse{ID: id})
}
