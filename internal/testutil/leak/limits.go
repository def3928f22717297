package leak

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
)

// limited is what limits must have the cgroup of a container with these resources, in the
// words of limits.
func limited(id string, r containertypes.Resources) (out []string) {
	if r.Memory > 0 {
		out = append(out, fmt.Sprintf("memory limit of %s: %d", id, r.Memory))
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		out = append(out, fmt.Sprintf("pids limit of %s: %d", id, *r.PidsLimit))
	}
	return out
}

// limits are the limits of the cgroups of an engine on dir, on either version.
func limits(dir string) (out []string) {
	for _, f := range []struct{ kind, pattern string }{
		{"memory", "/sys/fs/cgroup/memory/%s/*/memory.limit_in_bytes"}, {"memory", "/sys/fs/cgroup/%s/*/memory.max"},
		{"pids", "/sys/fs/cgroup/pids/%s/*/pids.max"}, {"pids", "/sys/fs/cgroup/%s/*/pids.max"},
	} {
		found, _ := filepath.Glob(fmt.Sprintf(f.pattern, Instance(dir)))
		for _, path := range found {
			raw, _ := os.ReadFile(path)
			n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
			if err == nil && n < 1<<60 { // else there is none
				out = append(out, fmt.Sprintf("%s limit of %s: %d", f.kind, filepath.Base(filepath.Dir(path)), n))
			}
		}
	}
	return out
}
