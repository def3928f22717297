package spec

import (
	"errors"

	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/userns"
)

// checkRemapped refuses what a user namespace of the container's own has no power for.
func checkRemapped(h *containertypes.HostConfig) error {
	switch {
	case h.Privileged:
		return errors.New("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case h.NetworkMode.IsHost():
		return errors.New("cannot share the host's network namespace when user namespaces are enabled")
	case h.PidMode.IsHost():
		return errors.New("cannot share the host PID namespace when user namespaces are enabled")
	}
	return nil
}

func setUserns(s *specs.Spec, in Input) {
	if in.IDs.Empty() {
		return
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: in.Namespaces.User.Path})
	s.Linux.UIDMappings, s.Linux.GIDMappings = userns.Spec(in.IDs.UIDMaps), userns.Spec(in.IDs.GIDMaps)
}

// cgroupsWritable says whether the container's cgroups are, as far as their owner and mode
// let it. With user namespaces they always are, as in dockerd.
func cgroupsWritable(in Input) (bool, error) {
	if in.IDs.Empty() {
		return in.Security.writableCgroups(in.HostConfig.Privileged), nil
	}
	if in.Security.WritableCgroups != nil {
		return false, errors.New("option WritableCgroups conflicts with user namespaces and rootless mode")
	}
	return true, nil
}

// bound says whether a device must be shown by a bind: nodes can't be made in a user
// namespace, and the runtime looks for the host's at the path of the inside.
func (in Input) bound(d Device) bool {
	return !in.IDs.Empty() && d.Host != "" && d.Host != d.Path
}

// deviceBinds are those of devices that have another path inside.
func deviceBinds(in Input) (out []specs.Mount) {
	for _, d := range in.Devices {
		if in.bound(d) {
			out = append(out, specs.Mount{Destination: d.Path, Type: "bind", Source: d.Host, Options: []string{"bind", "rprivate"}})
		}
	}
	return out
}
