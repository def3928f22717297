package image

import (
	"context"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

func (r *Router) postTag(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	named, err := httputil.RepoTag(req.Form.Get("repo"), req.Form.Get("tag"))
	if err != nil {
		return err
	}
	if named == nil {
		return errdefs.WithClass(errdefs.ErrInvalidArgument, reference.ErrReferenceInvalidFormat)
	}
	name := reference.FamiliarName(named)
	if name == string(digest.Canonical) {
		return errdefs.InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
	}
	if err := r.backend.Tag(ctx, route.Var(req, "name"), name, named.Tag()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (r *Router) deleteOne(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	name := route.Var(req, "name")
	if strings.TrimSpace(name) == "" {
		return errdefs.InvalidArgument("image name cannot be blank")
	}
	o := imagetypes.RemoveOptions{
		Force:         httputil.Bool(req, "force"),
		PruneChildren: !httputil.Bool(req, "noprune"),
	}
	if rest.RemovePlatforms.In(ctx) {
		var err error
		if o.Platforms, err = httputil.Platforms(req, "platforms"); err != nil {
			return err
		}
	}
	deleted, err := r.backend.Remove(ctx, name, o)
	if err != nil {
		return err
	}
	if deleted == nil {
		deleted = []imagetypes.DeleteResponse{}
	}
	return httputil.WriteJSON(w, http.StatusOK, deleted)
}

func (r *Router) postPrune(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	return httputil.Prune(ctx, w, req, r.backend.Prune)
}
