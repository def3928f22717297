package container

import (
	"context"
	"strings"

	"github.com/moby/sys/mountinfo"

	"gantry/daemon/hostpath"
	"gantry/daemon/spec"
)

// sourcePropagation looks up what the mount of a bind's source is, where that matters.
func sourcePropagation(ctx context.Context, m *spec.Mount) error {
	switch m.Propagation {
	case "shared", "rshared", "slave", "rslave":
	default:
		return nil
	}
	real, err := hostpath.Real(ctx, m.Source)
	if err != nil {
		return err
	}
	above, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return err
	}
	longest := -1
	for _, info := range above {
		if len(info.Mountpoint) < longest { // of several on one place the last is on top
			continue
		}
		longest = len(info.Mountpoint)
		m.SourceMount, m.SourcePropagation = info.Mountpoint, ""
		for o := range strings.SplitSeq(info.Optional, " ") {
			switch {
			case strings.HasPrefix(o, "shared:"):
				m.SourcePropagation = "shared"
			case strings.HasPrefix(o, "master:") && m.SourcePropagation == "":
				m.SourcePropagation = "slave"
			}
		}
	}
	return nil
}
