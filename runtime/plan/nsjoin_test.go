package plan_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/plan"
)

// TestGoldenJoins pins in which order namespaces are joined and made.
func TestGoldenJoins(t *testing.T) {
	join := func(s *specs.Spec, k specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: k, Path: path})
	}
	groups := map[string]int{"resctrl": 2}
	for name, change := range map[string]func(s *specs.Spec){
		"new-user-joined-network": func(s *specs.Spec) {
			add(s, specs.UserNamespace, specs.CgroupNamespace)
			join(s, specs.NetworkNamespace, "/run/netns/x")
		},
		"new-user-joined-pids": func(s *specs.Spec) {
			add(s, specs.UserNamespace)
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
			join(s, specs.PIDNamespace, "/proc/9/ns/pid")
			join(s, specs.NetworkNamespace, "/run/netns/x")
		},
		"time-in-user-namespace": func(s *specs.Spec) {
			add(s, specs.UserNamespace, specs.TimeNamespace)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: -1}}
		},
		"network-devices": func(s *specs.Spec) {
			add(s, specs.NetworkNamespace)
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth1": {Name: "eth0"}}
			s.Linux.Sysctl = map[string]string{"net.ipv4.conf.eth0.forwarding": "1"}
		},
		"resctrl": func(s *specs.Spec) {},
		"join-mount-namespace": func(s *specs.Spec) {
			s.Linux.Namespaces[0].Path = "/proc/9/ns/mnt"
			join(s, specs.UTSNamespace, "/proc/9/ns/uts")
			s.Mounts = []specs.Mount{m("/data", "bind", "/src", "rbind")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec()
			change(s)
			p, err := plan.Create(s, plan.Options{ID: "c", Groups: groups[name], RootPath: s.Root.Path, Start: true, Process: plan.Process{HaveCaps: 0xff}})
			golden(t, name, p, err)
		})
	}
}
