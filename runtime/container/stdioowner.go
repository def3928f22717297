package container

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ownPipes gives a process's pipes to the root of its user namespace, who hands them on to
// the process's own user: nobody in there has power over what belongs to an id that is not
// mapped, and /dev/stdout could not be opened. What is no pipe may be others' too and stays.
func ownPipes(l *specs.Linux, files ...*os.File) {
	uid, gid, ok := hostRoot(l)
	if !ok {
		return
	}
	for _, f := range files {
		var st unix.Stat_t
		if f == nil || unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		if !mapped(l.UIDMappings, st.Uid) || !mapped(l.GIDMappings, st.Gid) {
			unix.Fchown(int(f.Fd()), uid, gid) //nolint:errcheck // without the power to, it stays as it is
		}
	}
}

// hostRoot is the root of the user namespace, as the host's ids.
func hostRoot(l *specs.Linux) (uid, gid int, ok bool) {
	if l == nil {
		return 0, 0, false
	}
	uid, haveUser := hostID(l.UIDMappings, 0)
	gid, haveGroup := hostID(l.GIDMappings, 0)
	return uid, gid, haveUser && haveGroup
}

func hostID(list []specs.LinuxIDMapping, id uint32) (int, bool) {
	for _, m := range list {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + (id - m.ContainerID)), true
		}
	}
	return 0, false
}

func mapped(list []specs.LinuxIDMapping, host uint32) bool {
	for _, m := range list {
		if host >= m.HostID && host-m.HostID < m.Size {
			return true
		}
	}
	return false
}
