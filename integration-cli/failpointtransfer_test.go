package integrationcli

import "gantry/internal/testutil/moving"

// transfer has a client of the core move an image by the core.
func (s *site) transfer() error {
	return moving.Through(s.e.CoreSocket(), s.reg.Host+"/tiny:1")
}
