package security_test

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/security"
)

func TestNothingAsked(t *testing.T) {
	if f, _, listener, _, err := security.Seccomp(nil); f != nil || listener || err != nil {
		t.Error(f, listener, err)
	}
	if s, w, err := security.Capabilities(nil); s != (security.CapSets{}) || w != nil || err != nil {
		t.Error(s, w, err)
	}
	if l, w, err := security.Rlimits(nil); l != nil || w != nil || err != nil {
		t.Error(l, w, err)
	}
	if a, err := security.AppArmor(""); a != nil || err != nil {
		t.Error(a, err)
	}
	if a, err := security.SELinux(""); a != nil || err != nil {
		t.Error(a, err)
	}
}

func TestSeccomp(t *testing.T) {
	f, flags, listener, warnings, err := security.Seccomp(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}},
	})
	if err != nil || len(f) == 0 || !listener || flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 || len(warnings) > 0 {
		t.Error(len(f), flags, listener, warnings, err)
	}
	if _, _, _, _, err := security.Seccomp(&specs.LinuxSeccomp{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
}
