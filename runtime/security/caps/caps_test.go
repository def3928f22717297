package caps_test

import (
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/security/caps"
)

func TestNames(t *testing.T) {
	for n, name := range map[int]string{0: "CAP_CHOWN", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN", 40: "CAP_CHECKPOINT_RESTORE"} {
		if got, ok := caps.Number(name); !ok || got != n || caps.Name(n) != name {
			t.Errorf("%s: %d %v, %s", name, got, ok, caps.Name(n))
		}
	}
	if _, ok := caps.Number("chown"); ok {
		t.Error("a name without its prefix is known")
	}
	if got := caps.Name(63); got != "CAP_63" {
		t.Error(got)
	}
	if got := caps.Names(1<<0 | 1<<21); !reflect.DeepEqual(got, []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}) {
		t.Error(got)
	}
}

func TestClamp(t *testing.T) {
	const (
		chown, kill, setpcap, admin, resource = 1 << 0, 1 << 5, 1 << 8, 1 << 21, 1 << 24
		most                                  = chown | kill | setpcap | admin
	)
	root := caps.Sets{Effective: most, Permitted: most, Bounding: most}
	spec := func(bounding, permitted, inheritable, ambient string) *specs.LinuxCapabilities {
		return &specs.LinuxCapabilities{
			Bounding: strings.Fields(bounding), Effective: strings.Fields(permitted), Permitted: strings.Fields(permitted),
			Inheritable: strings.Fields(inheritable), Ambient: strings.Fields(ambient),
		}
	}
	for _, tc := range []struct {
		why   string
		in    *specs.LinuxCapabilities
		have  caps.Sets
		want  caps.Sets
		warns []string
	}{
		{"nothing asked", nil, root, caps.Sets{}, nil},
		{"all there", spec("CAP_CHOWN CAP_KILL", "CAP_CHOWN CAP_KILL", "", ""), root,
			caps.Sets{Bounding: chown | kill, Permitted: chown | kill, Effective: chown | kill}, nil},
		{"one is missing here", spec("CAP_CHOWN CAP_SYS_RESOURCE", "CAP_CHOWN CAP_SYS_RESOURCE", "", ""), root,
			caps.Sets{Bounding: chown, Permitted: chown, Effective: chown},
			[]string{"capability CAP_SYS_RESOURCE can't be given: left out of bounding, effective, permitted"}},
		{"one is unknown, told once", spec("CAP_NEW CAP_KILL", "CAP_NEW CAP_KILL", "", ""), root,
			caps.Sets{Bounding: kill, Permitted: kill, Effective: kill}, []string{`ignoring unknown or unavailable capabilities: [CAP_NEW]`}},
		{"ambient needs permitted and inheritable", spec("CAP_KILL CAP_CHOWN", "CAP_KILL CAP_CHOWN", "CAP_KILL", "CAP_KILL CAP_CHOWN"), root,
			caps.Sets{Bounding: kill | chown, Permitted: kill | chown, Effective: kill | chown, Inheritable: kill, Ambient: kill},
			[]string{"capability CAP_CHOWN can't be given: left out of ambient"}},
		{"inheritable from bounding alone, with setpcap", spec("", "", "CAP_SYS_RESOURCE", ""),
			caps.Sets{Effective: setpcap, Permitted: setpcap, Bounding: setpcap | resource}, caps.Sets{Inheritable: resource}, nil},
		{"the same without setpcap", spec("", "", "CAP_SYS_RESOURCE", ""),
			caps.Sets{Bounding: resource}, caps.Sets{},
			[]string{"capability CAP_SYS_RESOURCE can't be given: left out of inheritable"}},
		{"effective follows permitted", &specs.LinuxCapabilities{Effective: []string{"CAP_KILL"}}, root, caps.Sets{},
			[]string{"capability CAP_KILL can't be given: left out of effective"}},
		{"in a new user namespace", spec("CAP_SYS_RESOURCE", "CAP_SYS_RESOURCE", "", ""), caps.All(40),
			caps.Sets{Bounding: resource, Permitted: resource, Effective: resource}, nil},
		{"newer than the kernel", spec("CAP_CHECKPOINT_RESTORE", "", "", ""), caps.All(37), caps.Sets{},
			[]string{"capability CAP_CHECKPOINT_RESTORE can't be given: left out of bounding"}},
	} {
		got, warns := caps.Clamp(tc.in, tc.have)
		if got != tc.want || !reflect.DeepEqual(warns, tc.warns) {
			t.Errorf("%s: %+v %q\nwant %+v %q", tc.why, got, warns, tc.want, tc.warns)
		}
	}
}

// TestOwn asks the kernel: whatever is permitted can be given again.
func TestOwn(t *testing.T) {
	own, err := caps.Own()
	if err != nil {
		t.Fatal(err)
	}
	last, err := caps.Last()
	if err != nil || last < 37 || last > 63 {
		t.Fatal(last, err)
	}
	in := &specs.LinuxCapabilities{Bounding: caps.Names(own.Bounding), Permitted: caps.Names(own.Permitted), Effective: caps.Names(own.Permitted)}
	got, warns, err := caps.Clamped(in)
	if err != nil || len(warns) > 0 || got.Permitted != own.Permitted || got.Bounding != own.Bounding {
		t.Fatalf("%+v %q %v; own %+v", got, warns, err, own)
	}
	if _, warns, err := caps.ClampedInUserNS(&specs.LinuxCapabilities{Permitted: []string{"CAP_SYS_RESOURCE"}}); err != nil || len(warns) > 0 {
		t.Fatal(warns, err)
	}
}
