package label

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
)

func TestAppArmor(t *testing.T) {
	on, old, off := kernel{apparmor: true, ownAttrs: true}, kernel{apparmor: true}, kernel{}
	for _, tc := range []struct {
		why     string
		k       kernel
		profile string
		want    Attr // zero: nothing to write
		class   error
	}{
		{"none", on, "", Attr{}, nil},
		{"own attributes", on, "docker-default", Attr{"attr/apparmor/exec", "exec docker-default"}, nil},
		{"shared attributes", old, "docker-default", Attr{"attr/exec", "exec docker-default"}, nil},
		{"leave the runtime's own", on, "unconfined", Attr{"attr/apparmor/exec", "exec unconfined"}, nil},
		{"unconfined anyway", off, "unconfined", Attr{}, nil},
		{"off", off, "docker-default", Attr{}, errdefs.ErrUnavailable},
		{"two lines", on, "a\nb", Attr{}, errdefs.ErrInvalidArgument},
	} {
		got, err := tc.k.appArmor(tc.profile)
		check(t, tc.why, got, err, tc.want, tc.class)
	}
}

func TestSELinux(t *testing.T) {
	const l = "system_u:system_r:container_t:s0:c1,c2"
	on, off := kernel{selinux: true}, kernel{}
	for _, tc := range []struct {
		why, label string
		k          kernel
		want       Attr
		class      error
	}{
		{"none", "", on, Attr{}, nil},
		{"on", l, on, Attr{"attr/exec", l}, nil},
		{"off", l, off, Attr{}, errdefs.ErrUnavailable},
		{"hostile", "a\x00b", on, Attr{}, errdefs.ErrInvalidArgument},
	} {
		got, err := tc.k.selinuxExec(tc.label)
		check(t, tc.why, got, err, tc.want, tc.class)
	}
	for in, want := range map[string]string{"": "", l: `context="` + l + `"`, `a",x="`: ""} {
		if got := on.mountOption(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := off.mountOption(l); got != "" {
		t.Error(got)
	}
}

func check(t *testing.T, why string, got *Attr, err error, want Attr, class error) {
	t.Helper()
	if class != nil {
		if !errors.Is(err, class) {
			t.Errorf("%s: %v", why, err)
		}
		return
	}
	if err != nil || (got == nil) != (want == Attr{}) || got != nil && *got != want {
		t.Errorf("%s: %+v %v", why, got, err)
	}
}

func TestProbe(t *testing.T) {
	t.Logf("this kernel: %+v", probe())
}
