package system

import (
	"context"

	"github.com/docker/docker/api/types/registry"

	"gantry/api/errdefs"
)

// Auth tries credentials. The status is for the user.
func (s *Service) Auth(ctx context.Context, a *registry.AuthConfig) (status, token string, err error) {
	if s.deps.Registry == nil {
		return "", "", errdefs.NotImplemented("checking registry credentials is not available in this engine yet")
	}
	token, err = s.deps.Registry.Login(ctx, a)
	if err != nil {
		return "", "", err
	}
	return "Login Succeeded", token, nil
}
