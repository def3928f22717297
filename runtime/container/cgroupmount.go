package container

import (
	"strings"

	"github.com/moby/sys/mountinfo"
)

// v1Mount is a cgroup v1 hierarchy of the host.
type v1Mount struct {
	point   string
	options []string // to mount it
	keys    []string // of cgroup.Manager.Paths
}

// v1Mounts are the host's hierarchies, each once, in the order of its mounts.
func v1Mounts() []v1Mount {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return nil
	}
	var list []v1Mount
	for _, i := range infos {
		m := v1Mount{point: i.Mountpoint}
		for _, o := range strings.Split(i.VFSOptions, ",") {
			switch {
			case strings.HasPrefix(o, "name="):
				m.keys, m.options = append(m.keys, o), append(m.options, "none", o)
			case o == "ro" || o == "rw" || o == "xattr" || strings.Contains(o, "="), o == "clone_children", o == "noprefix":
			default:
				m.keys, m.options = append(m.keys, o), append(m.options, o)
			}
		}
		list = append(list, m)
	}
	return list
}
