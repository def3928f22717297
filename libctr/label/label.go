// Package label checks and updates the labels that records of the core carry.
package label

import (
	"maps"
	"strings"

	"gantry/api/errdefs"
)

// maxSize bounds a key and its value together, in bytes; containerd's rule.
const maxSize = 4096

// Validate checks every label; too large is InvalidArgument.
func Validate(labels map[string]string) error {
	for k, v := range labels {
		if n := len(k) + len(v); n > maxSize {
			return errdefs.InvalidArgument("label key and value length (%d bytes) greater than maximum size (%d bytes), key: %.64s: invalid argument",
				n, maxSize, k)
		}
	}
	return nil
}

// Clean returns the labels that a record keeps: an empty value means no label.
func Clean(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

// Update returns old with what the field paths name ("labels", "labels.KEY")
// taken from new; all when there are none. An empty value removes a label. Any
// other path is InvalidArgument.
func Update(old, new map[string]string, paths ...string) (map[string]string, error) {
	if len(paths) == 0 {
		paths = []string{"labels"}
	}
	out := make(map[string]string, len(old)+len(new))
	maps.Copy(out, old)
	for _, path := range paths {
		if path == "labels" {
			clear(out)
			maps.Copy(out, new)
			continue
		}
		key, ok := strings.CutPrefix(path, "labels.")
		if !ok {
			return nil, errdefs.InvalidArgument("cannot update field %q", path)
		}
		out[key] = new[key]
	}
	out = Clean(out)
	return out, Validate(out)
}
