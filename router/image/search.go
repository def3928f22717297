package image

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"

	"gantry/api/errdefs"
	"gantry/router/httputil"
)

// searcher is a backend that can ask the default registry's search.
type searcher interface {
	Search(ctx context.Context, term string, limit int, f filters.Args, auth *registry.AuthConfig, headers map[string][]string) ([]registry.SearchResult, error)
}

func (r *Router) getSearch(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	limit, _, err := httputil.Int(req, "limit")
	if err != nil || limit < 0 {
		return errdefs.InvalidArgument("invalid limit specified")
	}
	f, err := httputil.Filters(req)
	if err != nil {
		return err
	}
	b, ok := r.backend.(searcher)
	if !ok {
		return errdefs.NotImplemented("image search is not available in this engine yet")
	}
	found, err := b.Search(ctx, req.Form.Get("term"), limit, f, httputil.Auth(req), httputil.MetaHeaders(req))
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, found)
}
