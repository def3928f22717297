package image

import (
	"context"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
)

// Import is coming.
func (s *Service) Import(context.Context, apiimage.ImportOptions, apiimage.Progress) error {
	return errdefs.NotImplemented("import is not implemented yet")
}
