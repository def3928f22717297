package rootfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// InIDMap names the input that Root needs for a mount with id maps: a user namespace that
// has them.
const InIDMap = "rootidmap"

// The options by which a snapshotter says that its layers have the ids of the container's
// inside: "uidmap=INSIDE:HOST:SIZE", several with commas or by repeating the option. As in
// containerd they mean a bind as a whole, but of an overlay the lower layers, while the
// upper one has the host's ids.
const (
	uidMap = "uidmap"
	gidMap = "gidmap"
)

// IDMaps are the id maps that m asks for; none of both is none. The class of an error is
// InvalidArgument.
func IDMaps(m Mount) (uids, gids []specs.LinuxIDMapping, err error) {
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		list := &uids
		switch key {
		case uidMap:
		case gidMap:
			list = &gids
		default:
			continue
		}
		more, err := parseIDMap(value)
		if err != nil {
			return nil, nil, fmt.Errorf("mount option %s: %w", o, err)
		}
		*list = append(*list, more...)
	}
	if (len(uids) == 0) != (len(gids) == 0) {
		return nil, nil, fmt.Errorf("mount option %s needs %s: %w", uidMap, gidMap, errdefs.ErrInvalidArgument)
	}
	return uids, gids, nil
}

// NeedsIDMap says whether Root wants InIDMap for m.
func NeedsIDMap(m Mount) bool { return slices.ContainsFunc(m.Options, isIDMap) }

func isIDMap(option string) bool {
	key, _, _ := strings.Cut(option, "=")
	return key == uidMap || key == gidMap
}

func parseIDMap(text string) (list []specs.LinuxIDMapping, err error) {
	for _, entry := range strings.Split(text, ",") {
		var n [3]uint32
		fields := strings.Split(entry, ":")
		if len(fields) != len(n) {
			return nil, fmt.Errorf("want inside:host:size: %w", errdefs.ErrInvalidArgument)
		}
		for i, f := range fields {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
			}
			n[i] = uint32(v)
		}
		list = append(list, specs.LinuxIDMapping{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
	return list, nil
}

// withoutIDMaps are options less those of id maps, which no filesystem knows.
func withoutIDMaps(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), isIDMap)
}

// mapInPlace adds the ops that cover each directory by itself with its ids mapped. They
// are of the program's own mount namespace: overlayfs takes only layers that it can reach
// by a path of it (before Linux 6.15), and their names stay as they are.
func mapInPlace(p *program.Program, dirs []string) {
	ns := p.Input(InIDMap)
	for _, dir := range dirs {
		p.Label("map ids of layer %s", dir)
		r, _ := p.OpenTree("layer", program.Cwd, dir, unix.OPEN_TREE_CLONE)
		p.SetAttr(r, program.Attr{Set: unix.MOUNT_ATTR_IDMAP, UserNS: ns}, false)
		p.AttachPath(r, program.Cwd, dir)
		p.Close(r)
	}
}
