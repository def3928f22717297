// Package userns gives containers ids of their own: which ids of the host those inside are
// (--userns-remap), and the user namespaces that have them.
//
// Where they show:
//
//	layers of the image    as in the image; idmapped where they are mounted, so that all share them
//	a container's own one  the host's ids, as in volumes, which are not mapped
//	tars, the API          the ids inside
package userns

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
)

// Mapping says which ids of the host those inside are; the zero value maps none, and a
// container with it is in the host's user namespace.
type Mapping = user.IdentityMapping

// maxRanges is the kernel's bound of lines in a map (user_namespaces(7)).
const maxRanges = 340

// Check refuses what the kernel would not take. InvalidArgument.
func Check(m Mapping) error {
	for _, list := range [][]user.IDMap{m.UIDMaps, m.GIDMaps} {
		if err := check(list); err != nil {
			return errdefs.InvalidArgument("id mapping: %w", err)
		}
	}
	return nil
}

func check(list []user.IDMap) error {
	if len(list) == 0 || len(list) > maxRanges {
		return fmt.Errorf("%d ranges, want 1 to %d", len(list), maxRanges)
	}
	for i, r := range list {
		if r.Count < 1 || r.ID < 0 || r.ParentID < 0 || r.Count > math.MaxUint32 ||
			r.ID > math.MaxUint32-r.Count || r.ParentID > math.MaxUint32-r.Count {
			return fmt.Errorf("range of %d ids from %d is not possible", r.Count, r.ParentID)
		}
		for _, o := range list[:i] {
			if overlap(r.ID, o.ID, r.Count, o.Count) || overlap(r.ParentID, o.ParentID, r.Count, o.Count) {
				return fmt.Errorf("range of %d ids from %d overlaps another", r.Count, r.ParentID)
			}
		}
	}
	if _, _, err := (Mapping{UIDMaps: list, GIDMaps: list}).ToHost(0, 0); err != nil {
		return err
	}
	return nil
}

func overlap(a, b, aCount, bCount int64) bool { return a < b+bCount && b < a+aCount }

// Equal says whether two mappings are the same.
func Equal(a, b Mapping) bool {
	return slices.Equal(a.UIDMaps, b.UIDMaps) && slices.Equal(a.GIDMaps, b.GIDMaps)
}

// Labels ask a snapshotter for a snapshot with these ids; nil without a mapping.
func Labels(m Mapping) map[string]string {
	if m.Empty() {
		return nil
	}
	return map[string]string{snapshot.LabelUIDMapping: text(m.UIDMaps), snapshot.LabelGIDMapping: text(m.GIDMaps)}
}

// Options are those of a mount with these ids; none without a mapping.
func Options(m Mapping) []string {
	if m.Empty() {
		return nil
	}
	return []string{"uidmap=" + text(m.UIDMaps), "gidmap=" + text(m.GIDMaps)}
}

func text(list []user.IDMap) string {
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = fmt.Sprintf("%d:%d:%d", r.ID, r.ParentID, r.Count)
	}
	return strings.Join(out, ",")
}

// FromOptions takes the mapping out of a mount's options, as snapshotters pass it on. The
// zero Mapping when there is none.
func FromOptions(options []string) (m Mapping, rest []string, err error) {
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "uidmap":
			m.UIDMaps, err = parse(m.UIDMaps, value)
		case "gidmap":
			m.GIDMaps, err = parse(m.GIDMaps, value)
		default:
			rest = append(rest, o)
		}
		if err != nil {
			return m, nil, errdefs.InvalidArgument("mount option %.200s: %w", o, err)
		}
	}
	if !m.Empty() {
		err = Check(m)
	}
	return m, rest, err
}

func parse(list []user.IDMap, value string) ([]user.IDMap, error) {
	for _, r := range strings.Split(value, ",") {
		fields := strings.Split(r, ":")
		if len(fields) != 3 {
			return nil, fmt.Errorf("want INSIDE:HOST:SIZE")
		}
		var n [3]int64
		for i, f := range fields {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, err
			}
			n[i] = int64(v)
		}
		list = append(list, user.IDMap{ID: n[0], ParentID: n[1], Count: n[2]})
	}
	return list, nil
}

// unmapped is what the kernel shows of an id of the host that has none inside.
const unmapped = 65534

// Inside is what ids of the host are inside.
func Inside(m Mapping, uid, gid uint32) (insideUID, insideGID int) {
	return inside(m.UIDMaps, uid), inside(m.GIDMaps, gid)
}

func inside(list []user.IDMap, id uint32) int {
	if len(list) == 0 {
		return int(id)
	}
	for _, r := range list {
		if n := int64(id) - r.ParentID; n >= 0 && n < r.Count {
			return int(r.ID + n)
		}
	}
	return unmapped
}

// Spec is a side of a mapping in the words of the runtime specification.
func Spec(list []user.IDMap) (out []specs.LinuxIDMapping) {
	for _, r := range list {
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(r.ID), HostID: uint32(r.ParentID), Size: uint32(r.Count)})
	}
	return out
}

// proc is a side of a mapping in the words of package syscall.
func proc(list []user.IDMap) (out []syscall.SysProcIDMap) {
	for _, r := range list {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(r.ID), HostID: int(r.ParentID), Size: int(r.Count)})
	}
	return out
}
