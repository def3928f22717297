// Package features tells what of the runtime specification this runtime supports, by the
// tables that containers are made by.
package features

import (
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"gantry/runtime/plan"
	"gantry/runtime/rootfs"
	"gantry/runtime/security/caps"
	"gantry/runtime/security/seccomp"
	"gantry/runtime/validate"
)

// Supported returns a description that is the caller's.
func Supported() *features.Features {
	yes := true
	modes, modeFlags := plan.MemoryPolicies()
	return &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         validate.HookNames(),
		MountOptions:  rootfs.KnownOptions(),
		Linux: &features.Linux{
			Namespaces:   plan.NamespaceTypes(),
			Capabilities: caps.Known(),
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
			Seccomp: &features.Seccomp{
				Enabled:        &yes,
				Actions:        seccomp.Actions(),
				Operators:      seccomp.Operators(),
				Archs:          seccomp.Architectures(),
				KnownFlags:     seccomp.Flags(),
				SupportedFlags: seccomp.SupportedFlags(),
			},
			Apparmor: &features.Apparmor{Enabled: &yes},
			Selinux:  &features.Selinux{Enabled: &yes},
			IntelRdt: &features.IntelRdt{
				Enabled:    planned(func(l *specs.Linux) { l.IntelRdt = &specs.LinuxIntelRdt{ClosID: "c"} }),
				Schemata:   planned(func(l *specs.Linux) { l.IntelRdt = &specs.LinuxIntelRdt{Schemata: []string{"L3:0=f"}} }),
				Monitoring: planned(func(l *specs.Linux) { l.IntelRdt = &specs.LinuxIntelRdt{EnableMonitoring: true} }),
			},
			MemoryPolicy:    &features.MemoryPolicy{Modes: modes, Flags: modeFlags},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices: &features.NetDevices{Enabled: planned(func(l *specs.Linux) {
				l.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}}
			})},
		},
		Annotations: map[string]string{
			"org.opencontainers.runc.checkpoint.enabled": "true", // what callers of runc ask for
		},
		PotentiallyUnsafeConfigAnnotations: []string{"org.systemd.property.", "org.criu.config"},
	}
}

// planned says whether there is a plan for a container that asks for something.
func planned(ask func(*specs.Linux)) *bool {
	s := &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "/"}, Process: &specs.Process{Args: []string{"true"}, Cwd: "/"},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}}},
	}
	ask(s.Linux)
	_, err := plan.Create(s, plan.Options{RootPath: "/"})
	yes := !errdefs.IsNotImplemented(err)
	return &yes
}
