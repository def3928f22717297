// Package caps maps capability names to the kernel's sets.
package caps

import (
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Sets are the five sets of a process as bit masks, bit n = capability n.
type Sets struct {
	Effective, Permitted, Inheritable, Bounding, Ambient uint64
}

// Clamped …
func Clamped(c *specs.LinuxCapabilities) (Sets, []string, error) {
	return Sets{}, nil, errdefs.ErrNotImplemented
}

// Last …
func Last() (int, error) { return 0, errdefs.ErrNotImplemented }
