package container

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/validate"
)

// notOurs refuses sysctls of a namespace that is joined by path and is the one that we
// are in: dockerd gives a container of the host's network its namespace so.
func notOurs(n specs.LinuxNamespace, sysctls map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if validate.SysctlNamespace(key) != n.Type {
			continue
		}
		same, err := isOurs(n)
		if err != nil {
			return fmt.Errorf("sysctl %q: %w", key, err)
		}
		if same {
			return fmt.Errorf("sysctl %q not allowed in host %s namespace: %w", key, n.Type, errdefs.ErrInvalidArgument) // runc's words
		}
	}
	return nil
}

// isOurs says whether the namespace at a path is this process's.
func isOurs(n specs.LinuxNamespace) (bool, error) {
	own, ok := map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.UserNamespace: "user",
	}[n.Type]
	if !ok {
		return false, nil
	}
	var theirs, ours unix.Stat_t
	if err := unix.Stat(n.Path, &theirs); err != nil {
		return false, fmt.Errorf("stat %s: %w", n.Path, err)
	}
	if err := unix.Stat("/proc/self/ns/"+own, &ours); err != nil {
		return false, fmt.Errorf("stat own %s namespace: %w", own, err)
	}
	return theirs.Dev == ours.Dev && theirs.Ino == ours.Ino, nil
}
