// Package rlimit maps a spec's resource limits to the kernel's.
package rlimit

import (
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limit is one prlimit(2) to be set.
type Limit struct {
	Name       string // "RLIMIT_NOFILE"
	Resource   int    // unix.RLIMIT_NOFILE
	Soft, Hard uint64 // ^uint64(0): unlimited
}

// Clamped …
func Clamped(in []specs.POSIXRlimit) ([]Limit, []string, error) {
	return nil, nil, errdefs.ErrNotImplemented
}
