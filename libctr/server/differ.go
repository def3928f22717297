package server

import (
	"github.com/containerd/plugin"

	"gantry/api/errdefs"
)

func (b *builder) initDiffer(ic *plugin.InitContext) (any, error) {
	return nil, errdefs.NotImplemented("no differ")
}
