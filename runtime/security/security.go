// Package security turns a spec's confinement into what the kernel takes:
// a seccomp filter, capability sets, resource limits and label attributes.
//
// Everything here is computed in the parent, before the container's process
// exists; nothing here changes the calling process. The parts are in the
// packages below (seccomp, caps, rlimit, label); this one joins them.
package security

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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

// Seccomp compiles s. The flags are those of seccomp(2), SECCOMP_FILTER_FLAG_*;
// listener says that the filter notifies and that the flags ask for a listener
// descriptor. A nil s gives a nil filter. Class: InvalidArgument.
func Seccomp(s *specs.LinuxSeccomp) (filter []unix.SockFilter, flags uint, listener bool, warnings []Warning, err error) {
	if s == nil {
		return nil, 0, false, nil, nil
	}
	f, err := seccomp.Compile(s)
	if err != nil {
		return nil, 0, false, nil, err
	}
	return f.Program, f.Flags, f.Listener, f.Warnings, nil
}

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
