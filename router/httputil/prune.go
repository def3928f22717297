package httputil

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/filters"
)

// Prune answers with the report of a prune by the request's filters.
func Prune[R any](ctx context.Context, w http.ResponseWriter, r *http.Request, prune func(context.Context, filters.Args) (R, error)) error {
	if err := ParseForm(r); err != nil {
		return err
	}
	f, err := Filters(r)
	if err != nil {
		return err
	}
	report, err := prune(ctx, f)
	if err != nil {
		return err
	}
	return WriteJSON(w, http.StatusOK, report)
}
