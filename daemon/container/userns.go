package container

import (
	"fmt"
	"slices"
	"strings"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/daemon/userns"
	"gantry/libctr/core/mount"
)

// A container with ids of its own has a user namespace that is made with its network's and
// owns it. To join another's namespaces is to join the user namespace that owns them: only
// there has its init the power to.

// withOwner is a runtime's options with the owner of the standard streams, root inside, for
// shims that are known to take it: nobody else there could open /dev/stdout.
func withOwner(rt Runtime, ids userns.Mapping) (typeurl.Any, error) {
	if ids.Empty() || rt.Options == nil && !strings.HasPrefix(rt.Name, "io.containerd.runc.") {
		return rt.Options, nil
	}
	opts := &runcoptions.Options{}
	if rt.Options != nil && !typeurl.Is(rt.Options, opts) {
		return rt.Options, nil
	}
	if rt.Options != nil {
		if err := typeurl.UnmarshalTo(rt.Options, opts); err != nil {
			return nil, fmt.Errorf("options of runtime %s: %w", rt.Name, err)
		}
	}
	uid, gid := ids.RootPair()
	opts.IoUid, opts.IoGid = uint32(uid), uint32(gid)
	return typeurl.MarshalAny(opts)
}

// withIDs lets mounts of an image's layers show their owners as ids map them.
func withIDs(mounts []mount.Mount, ids userns.Mapping) []mount.Mount {
	out := slices.Clone(mounts)
	for i, m := range out {
		out[i].Options = slices.Concat(m.Options, userns.Options(ids))
	}
	return out
}

// joinUser is the user namespace of a container that joins donor's network; "" is the
// host's, from which all others can be joined.
func joinUser(c, donor *Snapshot) (path string, err error) {
	switch {
	case c.IDs.Empty():
		return "", nil
	case !userns.Equal(c.IDs, donor.IDs):
		return "", errdefs.Conflict("cannot join network namespace of container %s: it has other ids in its user namespace", donor.Name)
	}
	return procNS(donor.Pid, "user"), nil
}

// sameUser wants the container to be in donor's user namespace when it joins another of
// its namespaces.
func sameUser(c, donor *Snapshot, path string) error {
	if c.IDs.Empty() {
		return nil
	}
	var own, theirs unix.Stat_t
	if err := unix.Stat(path, &own); err != nil {
		return err
	}
	if err := unix.Stat(procNS(donor.Pid, "user"), &theirs); err != nil {
		return err
	}
	if own.Dev != theirs.Dev || own.Ino != theirs.Ino {
		return errdefs.InvalidArgument("with user namespaces enabled the network of container %s must be joined too (--network container:%s), which belongs to its user namespace", donor.Name, donor.Name)
	}
	return nil
}
