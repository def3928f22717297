package mountpoint

import (
	"fmt"
	"slices"
	"strings"

	mounttypes "github.com/docker/docker/api/types/mount"
)

// Words of a bind's mode by kind; at most one of each kind may be given.
var modeKinds = [][]string{
	{"rw", "ro"},
	{"z", "Z"},
	{"private", "rprivate", "slave", "rslave", "shared", "rshared"},
	{"nocopy"},
	{"consistent", "cached", "delegated"}, // macOS; ignored
}

var propagations = modeKinds[2]

func splitBind(raw string) (spec [2]string, mode string, err error) {
	parts := strings.SplitN(raw, ":", 4)
	switch {
	case parts[0] == "":
		return spec, "", errSpec(raw)
	case len(parts) == 1: // a path in the container: an anonymous volume
		spec[1] = parts[0]
	case len(parts) == 2:
		if validMode(parts[1]) { // "/foo:rw" names no source
			return spec, "", errSpec(raw)
		}
		spec[0], spec[1] = parts[0], parts[1]
	case len(parts) == 3:
		spec[0], spec[1], mode = parts[0], parts[1], parts[2]
	default:
		return spec, "", errSpec(raw)
	}
	if !validMode(mode) {
		return spec, "", errMode(mode)
	}
	return spec, mode, nil
}

func validMode(mode string) bool {
	if mode == "" {
		return true
	}
	seen := make([]int, len(modeKinds))
	for o := range strings.SplitSeq(mode, ",") {
		kind := slices.IndexFunc(modeKinds, func(words []string) bool { return slices.Contains(words, o) })
		if kind < 0 {
			return false
		}
		seen[kind]++
	}
	return !slices.ContainsFunc(seen, func(n int) bool { return n > 1 })
}

func writable(mode string) bool { return !hasOption(mode, "ro") }

func hasOption(mode, option string) bool { return slices.Contains(strings.Split(mode, ","), option) }

func propagation(mode string) mounttypes.Propagation {
	for o := range strings.SplitSeq(mode, ",") {
		if slices.Contains(propagations, o) {
			return mounttypes.Propagation(o)
		}
	}
	return ""
}

func cutMode(spec string) (id, mode string) {
	id, mode, _ = strings.Cut(spec, ":")
	return id, mode
}

func errSpec(raw string) error  { return fmt.Errorf("invalid volume specification: '%s'", raw) }
func errMode(mode string) error { return fmt.Errorf("invalid mode: %v", mode) }
