package container

import (
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/plan"
)

// giveCgroup lets a container that sees its cgroup, and may write there, own it.
func (k *creation) giveCgroup() error {
	uid, ok := cgroupOwner(k.Spec)
	if !ok || k.cg.Absent() {
		return nil
	}
	err := k.cg.GiveTo(uid)
	if err != nil && k.Rootless {
		k.Warn(err.Error())
		return nil
	}
	return err
}

// cgroupOwner is the host's user who is the process's, in a container with a cgroup
// namespace of its own and a cgroup mount that may be written (runtime-spec, "Cgroup
// ownership"). One who owns all cgroups anyway is none.
func cgroupOwner(s *specs.Spec) (uid int, ok bool) {
	writable := slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return (m.Type == "cgroup" || m.Type == "cgroup2") && filepath.Clean(m.Destination) == "/sys/fs/cgroup" && !slices.Contains(m.Options, "ro")
	})
	if !writable || !plan.HasNew(s, specs.CgroupNamespace) {
		return 0, false
	}
	user := s.Process.User.UID
	if !plan.HasUserNS(s) {
		return int(user), user != 0
	}
	for _, m := range s.Linux.UIDMappings {
		if user >= m.ContainerID && user-m.ContainerID < m.Size {
			host := m.HostID + user - m.ContainerID
			return int(host), host != 0
		}
	}
	return 0, false // not mapped, or in a namespace joined by path
}
