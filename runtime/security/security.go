// Package security turns a spec's confinement into what the kernel takes:
// a seccomp filter, capability sets, resource limits and label attributes.
//
// Everything here is computed in the parent, before the container's process
// exists; nothing here changes the calling process. The parts are in the
// packages below (seccomp, caps, rlimit, label); this one joins them.
package security

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/security/caps"
	"gantry/runtime/security/label"
	"gantry/runtime/security/rlimit"
	"gantry/runtime/security/seccomp"
)

// Warning says what was clamped or left out, in words for the user.
type Warning = string

// CapSets are the five sets of a process as bit masks, bit n = capability n.
type CapSets = caps.Sets

// Rlimit is a limit in the kernel's terms.
type Rlimit = rlimit.Limit

// Attr is a label to be written under /proc/<pid>.
type Attr = label.Attr

// Filter is a compiled seccomp profile.
type Filter = seccomp.Filter

// Seccomp compiles s. A nil s gives an empty filter. Class: InvalidArgument.
func Seccomp(s *specs.LinuxSeccomp) (*Filter, error) {
	if s == nil {
		return &Filter{}, nil
	}
	return seccomp.Compile(s)
}

// SeccompLets says whether s lets a system call through whatever its arguments are.
func SeccompLets(s *specs.LinuxSeccomp, call string) bool { return s == nil || seccomp.Lets(s, call) }

// Capabilities gives the sets of c, less what this process does not have and the
// kernel does not know, each told in a warning. Nil gives five empty sets.
func Capabilities(c *specs.LinuxCapabilities) (CapSets, []Warning, error) {
	return caps.Clamped(c)
}

// CapabilitiesInUserNS is Capabilities for a process that gets a user namespace
// of its own, in which it has them all.
func CapabilitiesInUserNS(c *specs.LinuxCapabilities) (CapSets, []Warning, error) {
	return caps.ClampedInUserNS(c)
}

// Rlimits gives in in the kernel's terms; without CAP_SYS_RESOURCE a hard limit
// is lowered to this process's own, with a warning. An unknown or repeated type
// and a soft limit above its hard one are InvalidArgument.
func Rlimits(in []specs.POSIXRlimit) ([]Rlimit, []Warning, error) { return rlimit.Clamped(in) }

// AppArmor says what to write so that the next exec enters the profile.
// Unconfined ("" or "unconfined") needs nothing: nil. Class: Unavailable, when
// the kernel has no AppArmor.
func AppArmor(profile string) (*Attr, error) { return label.AppArmorExec(profile) }

// SELinux says what to write so that the next exec gets the process label. An
// empty label needs nothing: nil. Class: Unavailable, when SELinux is off.
func SELinux(processLabel string) (*Attr, error) { return label.SELinuxExec(processLabel) }

// SELinuxMount is the mount option that gives a file system the label; "" when
// there is none or SELinux is off.
func SELinuxMount(mountLabel string) string { return label.MountOption(mountLabel) }
