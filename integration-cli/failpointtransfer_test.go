package integrationcli

import (
	"context"

	"gantry/internal/testutil/moving"
)

// transfer has a client of the core move an image by the core.
func (s *site) transfer() error {
	return moving.Through(context.Background(), s.e.CoreSocket(), s.reg.Host+"/tiny:1")
}

// abandon has a client of the core leave ingests unfinished.
func (s *site) abandon() error {
	return moving.Abandoned(context.Background(), s.e.CoreSocket())
}
