package validate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ipcSysctls belong to an ipc namespace (ipc/ipc_sysctl.c).
var ipcSysctls = []string{
	"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
	"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
}

// SysctlPath is the file of a sysctl below /proc/sys. Keys come in both of
// sysctl(8)'s forms: separated by dots with slashes for dots inside a name, or
// the other way round; the first separator decides.
func SysctlPath(key string) (string, error) {
	path := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		path = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return "", problem(fmt.Sprintf("%q is no sysctl", clip(key)))
		}
	}
	return path, nil
}

// sysctls takes only keys whose value is a namespace's of the container. A
// namespace that is joined by path must not be the host's, which whoever opens it
// sees.
func (c *checker) sysctls(m map[string]string, s *specs.Spec, ns joined) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		f := "linux.sysctl." + clip(key)
		c.text(f, m[key])
		path, err := SysctlPath(key)
		if err != nil {
			c.add("linux.sysctl", "%v", err)
			continue
		}
		kind := sysctlNamespace(path)
		switch {
		case kind == "":
			c.add(f, "is not of a namespace, it would change the host")
		case !ns.has(kind):
			c.add(f, "needs a namespace of its own: %s", kind)
		case path == "kernel/hostname" && s.Hostname != "" && s.Hostname != m[key]:
			c.add(f, "differs from hostname")
		case path == "kernel/domainname" && s.Domainname != "" && s.Domainname != m[key]:
			c.add(f, "differs from domainname")
		}
	}
}

// SysctlNamespace is the namespace that a sysctl's value belongs to; "" is the host.
func SysctlNamespace(key string) specs.LinuxNamespaceType {
	path, err := SysctlPath(key)
	if err != nil {
		return ""
	}
	return sysctlNamespace(path)
}

func sysctlNamespace(path string) specs.LinuxNamespaceType {
	top, _, deep := strings.Cut(path, "/")
	switch {
	case top == "net" && deep:
		return specs.NetworkNamespace
	case slices.Contains(ipcSysctls, path), strings.HasPrefix(path, "fs/mqueue/"):
		return specs.IPCNamespace
	case path == "kernel/hostname", path == "kernel/domainname":
		return specs.UTSNamespace
	case top == "user" && deep:
		return specs.UserNamespace
	}
	return ""
}
