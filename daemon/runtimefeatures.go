package daemon

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// featuresTime is how long a runtime may take to tell what it can.
const featuresTime = 5 * time.Second

// mountsRecursively asks a runtime's program whether it knows mounts that are read-only
// with all below them. One that tells nothing is older than the option, or fails at it:
// crun 1.8 takes it for directories only.
func mountsRecursively(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), featuresTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "features")
	cmd.WaitDelay = time.Second
	raw, err := cmd.Output()
	if err != nil {
		return false
	}
	var f features.Features
	return json.Unmarshal(raw, &f) == nil && slices.Contains(f.MountOptions, "rro")
}
