package spec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Names of seccomp profiles that are not JSON.
const (
	ProfileBuiltin    = "builtin"
	ProfileUnconfined = "unconfined"
)

// Security is what HostConfig.SecurityOpt says.
type Security struct {
	NoNewPrivileges bool
	AppArmor        string // "" is the default
	Seccomp         string // "" is the daemon's
	WritableCgroups *bool  // nil follows Privileged
	Labels          []string
}

func (s Security) writableCgroups(privileged bool) bool {
	if s.WritableCgroups != nil {
		return *s.WritableCgroups
	}
	return privileged
}

// ParseSecurity reads SecurityOpt; noNewPrivileges is the daemon's default.
func ParseSecurity(opts []string, noNewPrivileges bool) (Security, error) {
	s := Security{NoNewPrivileges: noNewPrivileges}
	for _, o := range opts {
		if err := s.option(o); err != nil {
			return Security{}, err
		}
	}
	return s, nil
}

func (s *Security) option(o string) error {
	yes := true
	switch o {
	case "no-new-privileges":
		s.NoNewPrivileges = true
		return nil
	case "writable-cgroups":
		s.WritableCgroups = &yes
		return nil
	case "disable":
		s.Labels = append(s.Labels, o)
		return nil
	}
	k, v, ok := strings.Cut(o, "=")
	if !ok {
		if k, v, ok = strings.Cut(o, ":"); !ok {
			return fmt.Errorf("invalid --security-opt 1: %q", o)
		}
	}
	return s.pair(k, v, o)
}

func (s *Security) pair(k, v, o string) error {
	bad := fmt.Errorf("invalid --security-opt 2: %q", o)
	switch k {
	case "label":
		s.Labels = append(s.Labels, v)
	case "apparmor":
		s.AppArmor = v
	case "seccomp":
		s.Seccomp = v
	case "no-new-privileges", "writable-cgroups":
		b, err := strconv.ParseBool(v)
		if err != nil {
			return bad
		}
		if k == "no-new-privileges" {
			s.NoNewPrivileges = b
		} else {
			s.WritableCgroups = &b
		}
	default:
		return bad
	}
	return nil
}

// setSeccomp chooses the profile: the container's, else none when privileged, else the
// daemon's, else the builtin one.
func setSeccomp(s *specs.Spec, in Input) (err error) {
	profile := in.Security.Seccomp
	if profile == ProfileUnconfined || (profile == "" && in.HostConfig.Privileged) {
		return nil
	}
	if !in.Host.Seccomp {
		if profile != "" && profile != ProfileBuiltin {
			return fmt.Errorf("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
		}
		return nil
	}
	if profile == "" {
		profile = in.Profile
	}
	switch profile {
	case ProfileUnconfined:
	case "", ProfileBuiltin:
		s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s)
	default:
		s.Linux.Seccomp, err = seccomp.LoadProfile(profile, s)
	}
	return err
}

func setAppArmor(s *specs.Spec, in Input) {
	s.Process.ApparmorProfile = AppArmor(in.Security, in.Host.AppArmor)
}

// AppArmor is the profile of a process. Without one of the user's own nothing is set:
// the daemon loads no profile of its own.
func AppArmor(sec Security, supported bool) string {
	if !supported || sec.AppArmor == ProfileUnconfined {
		return ""
	}
	return sec.AppArmor
}
