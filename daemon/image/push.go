package image

import (
	"context"

	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
)

// Push is not there yet.
func (s *Service) Push(context.Context, string, *ocispec.Platform, *registry.AuthConfig, apiimage.Progress) error {
	return errdefs.NotImplemented("push is not implemented yet")
}
