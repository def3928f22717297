package spec_test

import (
	"slices"
	"testing"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/spec"
	"gantry/daemon/userns"
)

func remapped() spec.Input {
	in := input()
	list := []user.IDMap{{ID: 0, ParentID: 100000, Count: 65536}}
	in.IDs = userns.Mapping{UIDMaps: list, GIDMaps: list}
	in.Namespaces.User.Path = "/netns/1-user"
	in.Host.PingGroupRange, in.Host.UnprivilegedPortStart = true, true
	return in
}

func TestBuildRemapped(t *testing.T) {
	in := remapped()
	in.Devices = []spec.Device{
		{LinuxDevice: specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1, Minor: 5}, Access: "r", Host: "/dev/zero"},
		{LinuxDevice: specs.LinuxDevice{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5}, Access: "r", Host: "/dev/zero"},
	}
	s, err := spec.Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/netns/1-user"}) {
		t.Errorf("namespaces %v", s.Linux.Namespaces)
	}
	want := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	if !slices.Equal(s.Linux.UIDMappings, want) || !slices.Equal(s.Linux.GIDMappings, want) {
		t.Errorf("mappings %v and %v", s.Linux.UIDMappings, s.Linux.GIDMappings)
	}
	if s.Linux.Sysctl["net.ipv4.ping_group_range"] != "" || s.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"] != "0" {
		t.Errorf("sysctls %v", s.Linux.Sysctl)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/zero" {
		t.Errorf("devices %v", s.Linux.Devices)
	}
	bound := false
	for _, m := range s.Mounts {
		bound = bound || m.Destination == "/dev/x" && m.Source == "/dev/zero" && m.Type == "bind"
		if m.Type == "cgroup" && slices.Contains(m.Options, "ro") {
			t.Error("cgroups are read-only")
		}
	}
	if !bound {
		t.Error("a device of another name is not bound")
	}
}

func TestBuildRemappedCgroups(t *testing.T) {
	in := remapped()
	no := false
	in.Security.WritableCgroups = &no
	if _, err := spec.Build(in); err == nil || err.Error() != "option WritableCgroups conflicts with user namespaces and rootless mode" {
		t.Errorf("error %v", err)
	}
}

func TestBuildInHostNamespace(t *testing.T) {
	s, err := spec.Build(input())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			t.Error("a user namespace that nobody asked for")
		}
	}
}
