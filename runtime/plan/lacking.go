package plan

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// lacking refuses what the specification has and this runtime does not, so that
// nothing is dropped in silence.
func lacking(s *specs.Spec, _ *specs.Process) error {
	what := ""
	switch l := s.Linux; {
	case l == nil:
	case l.IntelRdt != nil:
		what = "linux.intelRdt"
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%s is not supported: %w", what, errdefs.ErrNotImplemented)
}
