package activation

import (
	"slices"
	"strings"

	"gantry/api/errdefs"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/mount"
)

// maxTransforms bounds those of one mount.
const maxTransforms = 8

// plan says who makes which mount: the core the first ours of them, the caller the rest.
// ours is -1 when the core has nothing to do.
type plan struct {
	steps []step
	ours  int
}

// step is one mount. Of the first that is the caller's the core applies the first apply
// transforms: a transform needs what those before it have made, so those that the caller
// can do itself are left to it only at the end.
type step struct {
	mount      mount.Mount
	transforms []string
	apply      int
}

// makePlan decides it. A type before whose slash is no transform that we know is left as
// it is, to whoever knows it.
func makePlan(mounts []mount.Mount, o activation.Options) (plan, error) {
	p := plan{ours: -1}
	for i, m := range mounts {
		if tooLong(m) {
			return p, errdefs.InvalidArgument("source, target or option of mount %d is longer than %d bytes", i, maxText)
		}
		s := step{mount: m}
		rest := m.Type
		for {
			name, after, ok := strings.Cut(rest, "/")
			if !ok || !slices.Contains(activation.Transforms, name) {
				break
			}
			if len(s.transforms) == maxTransforms {
				return p, errdefs.InvalidArgument("type %.100q of mount %d has more than %d transforms", m.Type, i, maxTransforms)
			}
			s.transforms = append(s.transforms, name)
			if !slices.Contains(o.AllowTransforms, name) && !slices.Contains(o.AllowTypes, m.Type) {
				s.apply = len(s.transforms)
				p.ours = i // all before it, at least
			}
			rest = after
		}
		if o.Temporary || rest == activation.TypeLoop && !slices.Contains(o.AllowTypes, rest) {
			p.ours = i + 1
		}
		p.steps = append(p.steps, s)
	}
	return p, nil
}

func tooLong(m mount.Mount) bool {
	return len(m.Source) > maxText || len(m.Target) > maxText ||
		slices.ContainsFunc(m.Options, func(o string) bool { return len(o) > maxText })
}
