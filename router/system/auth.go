package system

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/registry"

	"gantry/router/httputil"
)

// postAuth takes its body under any Content-Type, as older clients send it.
func (r *Router) postAuth(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	var a registry.AuthConfig
	if err := httputil.DecodeJSON(req, &a); err != nil {
		return err
	}
	status, token, err := r.backend.Auth(ctx, &a)
	if err != nil {
		return err
	}
	return httputil.WriteJSON(w, http.StatusOK, registry.AuthenticateOKBody{Status: status, IdentityToken: token})
}
