package container

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCgroupOwner(t *testing.T) {
	cgroupNS := specs.LinuxNamespace{Type: specs.CgroupNamespace}
	userNS := specs.LinuxNamespace{Type: specs.UserNamespace}
	rw := specs.Mount{Type: "cgroup", Destination: "/sys/fs/cgroup/", Options: []string{"nosuid"}}
	ro := specs.Mount{Type: "cgroup", Destination: "/sys/fs/cgroup", Options: []string{"nosuid", "ro"}}
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}}
	for _, tc := range []struct {
		why        string
		namespaces []specs.LinuxNamespace
		mount      specs.Mount
		maps       []specs.LinuxIDMapping
		user       uint32
		want       int // 0: nobody
	}{
		{"root of a user namespace", []specs.LinuxNamespace{cgroupNS, userNS}, rw, maps, 0, 1000},
		{"another user there", []specs.LinuxNamespace{cgroupNS, userNS}, rw, maps, 33, 100032},
		{"one who is not mapped", []specs.LinuxNamespace{cgroupNS, userNS}, rw, maps, 70000, 0},
		{"read-only", []specs.LinuxNamespace{cgroupNS, userNS}, ro, maps, 0, 0},
		{"the host's cgroup namespace", []specs.LinuxNamespace{userNS}, rw, maps, 0, 0},
		{"a joined cgroup namespace", []specs.LinuxNamespace{{Type: specs.CgroupNamespace, Path: "/x"}, userNS}, rw, maps, 0, 0},
		{"the host's root", []specs.LinuxNamespace{cgroupNS}, rw, nil, 0, 0},
		{"a user of the host", []specs.LinuxNamespace{cgroupNS}, rw, nil, 33, 33},
		{"no cgroup mount", []specs.LinuxNamespace{cgroupNS, userNS}, specs.Mount{Type: "tmpfs", Destination: "/sys/fs/cgroup"}, maps, 0, 0},
	} {
		s := &specs.Spec{Mounts: []specs.Mount{tc.mount}, Process: &specs.Process{User: specs.User{UID: tc.user}},
			Linux: &specs.Linux{Namespaces: tc.namespaces, UIDMappings: tc.maps}}
		if got, ok := cgroupOwner(s); got != tc.want || ok != (tc.want != 0) {
			t.Errorf("%s: %d, %v", tc.why, got, ok)
		}
	}
}
