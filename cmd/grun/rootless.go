package main

import (
	"os"
	"strconv"

	"github.com/moby/sys/userns"
)

// isRootless says whether cgroups that may not be written are passed over: what
// --rootless says, by default where we are not root, or root of a user namespace.
func (g *globals) isRootless() bool {
	if yes, err := strconv.ParseBool(g.rootless); err == nil {
		return yes
	}
	return os.Geteuid() != 0 || userns.RunningInUserNS()
}
