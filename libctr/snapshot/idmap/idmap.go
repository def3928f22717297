// Package idmap reads the labels by which a snapshot's ids are mapped.
package idmap

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
)

// unmapped is what the kernel shows of an id of the host that has none inside.
const unmapped = 65534

// Inside reads the options that Options has given: what the host's owners are inside. nil
// when there are none. InvalidArgument.
func Inside(options []string) (func(uid, gid uint32) (insideUID, insideGID uint32), error) {
	labels := map[string]string{}
	for _, o := range options {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "uidmap":
			labels[snapshot.LabelUIDMapping] = value
		case "gidmap":
			labels[snapshot.LabelGIDMapping] = value
		}
	}
	if len(labels) == 0 {
		return nil, nil
	}
	if err := Check(labels); err != nil {
		return nil, err
	}
	return func(uid, gid uint32) (uint32, uint32) {
		return toInside(labels[snapshot.LabelUIDMapping], uid), toInside(labels[snapshot.LabelGIDMapping], gid)
	}, nil
}

func toInside(mapping string, id uint32) uint32 {
	for r := range strings.SplitSeq(mapping, ",") {
		inside, host, size, err := parse(r)
		if err == nil && id >= host && id-host < size {
			return inside + (id - host)
		}
	}
	return unmapped
}

// maxRanges is the kernel's bound of lines in a user namespace's map.
const maxRanges = 340

// Options are the mount options for a snapshot with these labels, none without a mapping.
func Options(labels map[string]string) []string {
	uids, gids := labels[snapshot.LabelUIDMapping], labels[snapshot.LabelGIDMapping]
	if uids == "" || gids == "" {
		return nil
	}
	return []string{"uidmap=" + uids, "gidmap=" + gids}
}

// Check refuses labels that are no mapping, and one of users without one of groups.
func Check(labels map[string]string) error {
	_, _, err := Owner(labels, 0, 0)
	return err
}

// Owner is who on the host is uid and gid inside; the same ones without a mapping.
// InvalidArgument when there is none.
func Owner(labels map[string]string, uid, gid uint32) (hostUID, hostGID uint32, err error) {
	uids, gids := labels[snapshot.LabelUIDMapping], labels[snapshot.LabelGIDMapping]
	if uids == "" && gids == "" {
		return uid, gid, nil
	}
	if hostUID, err = toHost(uids, uid); err != nil {
		return 0, 0, errdefs.InvalidArgument("label %s: %w", snapshot.LabelUIDMapping, err)
	}
	if hostGID, err = toHost(gids, gid); err != nil {
		return 0, 0, errdefs.InvalidArgument("label %s: %w", snapshot.LabelGIDMapping, err)
	}
	return hostUID, hostGID, nil
}

func toHost(mapping string, id uint32) (uint32, error) {
	ranges := strings.Split(mapping, ",")
	if len(ranges) > maxRanges {
		return 0, errdefs.InvalidArgument("more than %d ranges", maxRanges)
	}
	found, host := false, uint32(0)
	for _, r := range ranges {
		inside, first, size, err := parse(r)
		if err != nil {
			return 0, err
		}
		if id >= inside && uint64(id) < uint64(inside)+uint64(size) {
			found, host = true, first+(id-inside)
		}
	}
	if !found {
		return 0, errdefs.InvalidArgument("%d is not mapped", id)
	}
	return host, nil
}

func parse(r string) (inside, host, size uint32, err error) {
	fields := strings.Split(r, ":")
	if len(fields) != 3 {
		return 0, 0, 0, errdefs.InvalidArgument("%.100q is not INSIDE:HOST:SIZE", r)
	}
	var n [3]uint32
	for i, f := range fields {
		v, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return 0, 0, 0, errdefs.InvalidArgument("%.100q: %w", r, err)
		}
		n[i] = uint32(v)
	}
	if n[2] == 0 || uint64(n[0])+uint64(n[2]) > 1<<32 || uint64(n[1])+uint64(n[2]) > 1<<32 {
		return 0, 0, 0, errdefs.InvalidArgument("%.100q: size is not possible", r)
	}
	return n[0], n[1], n[2], nil
}

// Supported says whether overlayfs takes id-mapped layers here: Linux from 5.19.
func Supported() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 19
}
