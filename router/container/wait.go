package container

import (
	"context"
	"encoding/json"
	"net/http"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

// postWait sends its headers as soon as the wait is registered: clients start the
// container when they see them.
func (r *Router) postWait(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	cond, err := waitCondition(ctx, req)
	if err != nil {
		return err
	}
	result, err := r.backend.Wait(ctx, route.Var(req, "name"), cond)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if rest.WaitCondition.In(ctx) {
		if err := httputil.Commit(w, http.StatusOK); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case res := <-result:
		if res.Error != nil && cond == containertypes.WaitConditionRemoved && !rest.WaitRemoveError.In(ctx) {
			return nil // an empty body is how these versions tell
		}
		return json.NewEncoder(w).Encode(res)
	}
}

func waitCondition(ctx context.Context, req *http.Request) (containertypes.WaitCondition, error) {
	if !rest.WaitCondition.In(ctx) {
		return containertypes.WaitConditionNotRunning, nil
	}
	if err := httputil.ParseForm(req); err != nil {
		return "", err
	}
	switch c := containertypes.WaitCondition(req.Form.Get("condition")); c {
	case "":
		return containertypes.WaitConditionNotRunning, nil
	case containertypes.WaitConditionNotRunning, containertypes.WaitConditionNextExit, containertypes.WaitConditionRemoved:
		return c, nil
	default:
		return "", errdefs.InvalidArgument("invalid condition: %q", string(c))
	}
}
