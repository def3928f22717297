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
	if f, err := security.Seccomp(nil); err != nil || len(f.Program)+len(f.Notify) > 0 {
		t.Error(f, err)
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
	f, err := security.Seccomp(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}},
	})
	if err != nil || len(f.Program) == 0 || len(f.Notify) == 0 || f.NotifyFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 || len(f.Warnings) > 0 {
		t.Error(f, err)
	}
	if _, err := security.Seccomp(&specs.LinuxSeccomp{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
}
