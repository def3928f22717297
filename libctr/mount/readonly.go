package mount

import (
	"slices"
	"strings"

	"gantry/libctr/core/mount"
)

// ReadOnly returns mounts that show the same and change nothing. An overlay's upper
// directory becomes its topmost lower one, since it may be mounted elsewhere and an
// upper directory must have one mount only. Ids are not mapped: a bind shows those of the
// inside, which it has on disk.
func ReadOnly(mounts []mount.Mount) []mount.Mount {
	out := slices.Clone(mounts)
	for i, m := range out {
		if m.Type == "overlay" {
			out[i].Options = lowered(m.Options)
		}
		out[i].Options = append(slices.DeleteFunc(slices.Clone(out[i].Options), func(o string) bool {
			return o == "rw" || o == "ro" || strings.HasPrefix(o, "uidmap=") || strings.HasPrefix(o, "gidmap=")
		}), "ro")
	}
	return out
}

// lowered moves the upper directory to the front of the lower ones.
func lowered(options []string) (out []string) {
	upper, lower := "", ""
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "upperdir":
			upper = value
		case "lowerdir":
			lower = value
		case "workdir":
		default:
			out = append(out, o)
		}
	}
	if upper != "" {
		lower = strings.TrimSuffix(upper+":"+lower, ":")
	}
	return append(out, "lowerdir="+lower)
}
