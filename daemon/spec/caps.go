package spec

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/host"
)

// DefaultCaps is what a container has unless it says otherwise.
func DefaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
		"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

const allCaps = "ALL"

// normalCaps upper-cases names and adds CAP_; ALL stays.
func normalCaps(names []string, h host.Features) ([]string, error) {
	var out []string
	for _, n := range names {
		c := strings.ToUpper(n)
		if c != allCaps && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		switch {
		case c == allCaps || slices.Contains(h.Caps, c):
		case slices.Contains(h.KnownCaps, c):
			return nil, fmt.Errorf("capability not supported by your kernel or not available in the current environment: %q", c)
		default:
			return nil, fmt.Errorf("unknown capability: %q", c)
		}
		out = append(out, c)
	}
	return out, nil
}

// Caps is the set of a container: the defaults less drop, with add; all that the daemon
// has when privileged. Names that Validate would refuse are left out.
func Caps(add, drop []string, privileged bool, h host.Features) []string {
	if privileged {
		return slices.Clone(h.Caps)
	}
	adds, _ := normalCaps(add, h)
	drops, _ := normalCaps(drop, h)
	dropped := func(c string) bool { return slices.Contains(drops, c) }
	switch {
	case slices.Contains(adds, allCaps):
		return slices.DeleteFunc(slices.Clone(h.Caps), dropped)
	case slices.Contains(drops, allCaps):
		return adds
	}
	caps := slices.DeleteFunc(DefaultCaps(), dropped)
	for _, c := range adds {
		if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps
}

// CapSets gives caps to a process. The inheritable set stays empty; a user other than
// root gets them in the bounding set only, since the kernel drops the others at execve.
func CapSets(caps []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{
		Bounding: caps, Permitted: slices.Clone(caps), Effective: slices.Clone(caps),
	}
}

func setCapabilities(s *specs.Spec, in Input) {
	h := in.HostConfig
	s.Process.Capabilities = CapSets(Caps(h.CapAdd, h.CapDrop, h.Privileged, in.Host))
}
