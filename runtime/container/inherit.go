package container

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// inherited is p with the container's own settings where it has none, as with runc.
func inherited(own, p *specs.Process) *specs.Process {
	out := *p
	if out.Capabilities == nil {
		out.Capabilities = own.Capabilities
	}
	if out.ApparmorProfile == "" {
		out.ApparmorProfile = own.ApparmorProfile
	}
	if out.SelinuxLabel == "" {
		out.SelinuxLabel = own.SelinuxLabel
	}
	if len(out.Rlimits) == 0 {
		out.Rlimits = own.Rlimits
	}
	if out.IOPriority == nil {
		out.IOPriority = own.IOPriority
	}
	if out.Scheduler == nil {
		out.Scheduler = own.Scheduler
	}
	if out.ExecCPUAffinity == nil {
		out.ExecCPUAffinity = own.ExecCPUAffinity
	}
	if out.User.Umask == nil {
		out.User.Umask = own.User.Umask
	}
	return &out
}

// ignored tells what of the spec has no effect.
func ignored(s *specs.Spec) (warnings []string) {
	if p := s.Linux.Personality; p != nil && len(p.Flags) > 0 {
		warnings = append(warnings, fmt.Sprintf("ignoring unsupported personality flags: %v", p.Flags))
	}
	return warnings
}

// resetAffinity lets the init run wherever its cgroup does, not only where the
// runtime may: since Linux 6.2 a cpuset does not widen what a process had.
func resetAffinity(pid int, warn func(string)) {
	var all unix.CPUSet
	all.Fill()
	if err := unix.SchedSetaffinity(pid, &all); err != nil {
		warn(fmt.Sprintf("reset CPU affinity: %v", err))
	}
}
