package container

import (
	"context"
	"net/http"

	apicontainer "gantry/api/container"
	"gantry/router/httputil"
	"gantry/router/route"
)

// postAttach turns the connection into the container's streams. Its context ends
// when the client hangs up.
func (r *Router) postAttach(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	up := httputil.NewUpgrade(ctx, w, req)
	defer up.Close()
	return r.backend.Attach(up.Context(), route.Var(req, "name"), apicontainer.AttachOptions{
		Stdin:      httputil.Bool(req, "stdin"),
		Stdout:     httputil.Bool(req, "stdout"),
		Stderr:     httputil.Bool(req, "stderr"),
		Logs:       httputil.Bool(req, "logs"),
		Stream:     httputil.Bool(req, "stream"),
		DetachKeys: req.Form.Get("detachKeys"),
		Open:       up.Open,
	})
}

func (r *Router) postResize(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	height, width, err := httputil.Size(req)
	if err != nil {
		return err
	}
	return r.backend.Resize(ctx, route.Var(req, "name"), height, width)
}
