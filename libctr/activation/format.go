package activation

import (
	"slices"
	"strconv"
	"strings"

	"gantry/api/errdefs"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/mount"
)

// format fills in the places of source, target and options.
func format(m mount.Mount, active []activation.Mount) (_ mount.Mount, err error) {
	if m.Source, err = fill(m.Source, active); err != nil {
		return m, err
	}
	if m.Target, err = fill(m.Target, active); err != nil {
		return m, err
	}
	m.Options = slices.Clone(m.Options)
	for i := range m.Options {
		if m.Options[i], err = fill(m.Options[i], active); err != nil {
			return m, err
		}
	}
	return m, nil
}

// fill replaces each {{ FUNCTION NUMBER… }}. It is what mounts use of Go's templates, and
// no more: there is nothing to run.
func fill(text string, active []activation.Mount) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		expr, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", errdefs.InvalidArgument("%.100q: {{ without }}", text)
		}
		value, err := evaluate(expr, active)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		if out.Len() > maxText {
			return "", errdefs.InvalidArgument("%.100q: longer than %d bytes when complete", text, maxText)
		}
		text = after
	}
}

func evaluate(expr string, active []activation.Mount) (string, error) {
	words := strings.Fields(expr)
	if len(words) == 0 {
		return "", errdefs.InvalidArgument("{{%.100s}}: nothing to fill in", expr)
	}
	var n []int
	for _, w := range words[1:] {
		i, err := strconv.Atoi(w)
		if err != nil || i < 0 || i >= len(active) {
			return "", errdefs.InvalidArgument("{{%.100s}}: %.20q is none of the %d mounts before", expr, w, len(active))
		}
		n = append(n, i)
	}
	switch {
	case words[0] == "overlay" && len(n) == 2:
		return overlay(active, n[0], n[1]), nil
	case words[0] == "source" && len(n) == 1:
		return active[n[0]].Source, nil
	case words[0] == "target" && len(n) == 1:
		return active[n[0]].Target, nil
	case words[0] == "mount" && len(n) == 1:
		return active[n[0]].MountPoint, nil
	}
	return "", errdefs.InvalidArgument("{{%.100s}}: want mount N, source N, target N or overlay FROM TO", expr)
}

// overlay joins mount points from one to another, in either direction, as the lowerdir
// of an overlay has them.
func overlay(active []activation.Mount, from, to int) string {
	var dirs []string
	for i := from; ; {
		dirs = append(dirs, active[i].MountPoint)
		if i == to {
			return strings.Join(dirs, ":")
		}
		if from < to {
			i++
		} else {
			i--
		}
	}
}
