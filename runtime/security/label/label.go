// Package label says what to write where so that a process gets its AppArmor
// profile or SELinux label at its next exec.
//
// The process writes the attributes of itself, in one write(2) each: attr files
// under /proc/<pid> refuse a write by anyone else.
package label

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Attr is a value to be written by the process itself, in one write.
type Attr struct {
	Path  string // below /proc/self (or /proc/thread-self): "attr/apparmor/exec"
	Value string
}

// kernel is what the answers depend on.
type kernel struct {
	apparmor bool // the AppArmor module is enabled
	ownAttrs bool // it has an attribute directory of its own (Linux 5.8)
	selinux  bool // SELinux has loaded a policy
}

const (
	apparmorEnabled = "/sys/module/apparmor/parameters/enabled"
	apparmorAttrs   = "/proc/self/attr/apparmor"
	selinuxFS       = "/sys/fs/selinux"
	selinuxMagic    = 0xf97cff8c
)

func probe() kernel {
	var k kernel
	if b, err := os.ReadFile(apparmorEnabled); err == nil {
		k.apparmor = len(b) > 0 && b[0] == 'Y'
	}
	if _, err := os.Stat(apparmorAttrs); err == nil {
		k.ownAttrs = true
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(selinuxFS, &fs); err == nil {
		k.selinux = uint32(fs.Type) == selinuxMagic
	}
	return k
}

// AppArmorEnabled says whether the kernel confines by AppArmor profiles.
func AppArmorEnabled() bool { return probe().apparmor }

// SELinuxEnabled says whether the kernel labels by SELinux.
func SELinuxEnabled() bool { return probe().selinux }

// AppArmorExec says what to write to enter a profile. No profile needs nothing,
// nor does "unconfined" where AppArmor is off: nil. Any other one there is
// Unavailable.
func AppArmorExec(profile string) (*Attr, error) { return probe().appArmor(profile) }

func (k kernel) appArmor(profile string) (*Attr, error) {
	switch {
	case profile == "", profile == "unconfined" && !k.apparmor:
		return nil, nil
	case strings.ContainsAny(profile, "\x00\n"):
		return nil, fmt.Errorf("apparmor profile %q: %w", profile, errdefs.ErrInvalidArgument)
	case !k.apparmor:
		return nil, fmt.Errorf("apparmor profile %q: the kernel has no AppArmor enabled: %w", profile, errdefs.ErrUnavailable)
	}
	a := &Attr{Path: "attr/exec", Value: "exec " + profile}
	if k.ownAttrs {
		a.Path = "attr/apparmor/exec"
	}
	return a, nil
}

// SELinuxExec says what to write to get a process label. No label needs
// nothing: nil. One where SELinux is off is Unavailable.
func SELinuxExec(processLabel string) (*Attr, error) { return probe().selinuxExec(processLabel) }

func (k kernel) selinuxExec(l string) (*Attr, error) {
	switch {
	case l == "":
		return nil, nil
	case strings.ContainsAny(l, "\x00\n"):
		return nil, fmt.Errorf("selinux label %q: %w", l, errdefs.ErrInvalidArgument)
	case !k.selinux:
		return nil, fmt.Errorf("selinux label %q: the kernel has no SELinux enabled: %w", l, errdefs.ErrUnavailable)
	}
	return &Attr{Path: "attr/exec", Value: l}, nil
}

// MountOption is the mount option that labels a whole file system; "" without a
// label or where SELinux is off.
func MountOption(mountLabel string) string { return probe().mountOption(mountLabel) }

func (k kernel) mountOption(l string) string {
	if l == "" || !k.selinux || strings.ContainsAny(l, "\x00\n\"") {
		return ""
	}
	return `context="` + l + `"`
}
