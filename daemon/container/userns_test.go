package container

import (
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"github.com/moby/sys/user"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/daemon/userns"
	"gantry/libctr/core/mount"
)

var remapped = userns.Mapping{
	UIDMaps: []user.IDMap{{ID: 0, ParentID: 100000, Count: 65536}},
	GIDMaps: []user.IDMap{{ID: 0, ParentID: 200000, Count: 65536}},
}

func TestWithOwner(t *testing.T) {
	of := func(v any) typeurl.Any {
		a, err := typeurl.MarshalAny(v)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		name  string
		rt    Runtime
		ids   userns.Mapping
		owned bool
	}{
		{"our own", Runtime{Name: "io.containerd.gantry.v2", Options: of(&runcoptions.Options{BinaryName: "b"})}, remapped, true},
		{"runc's shim without options", Runtime{Name: "io.containerd.runc.v2"}, remapped, true},
		{"the host's ids", Runtime{Name: "io.containerd.runc.v2"}, userns.Mapping{}, false},
		{"another shim", Runtime{Name: "io.containerd.other.v1"}, remapped, false},
		{"another shim's options", Runtime{Name: "io.containerd.other.v1", Options: of(&emptypb.Empty{})}, remapped, false},
	} {
		got, err := withOwner(c.rt, c.ids)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.owned {
			if got != c.rt.Options {
				t.Errorf("%s: changed to %v", c.name, got)
			}
			continue
		}
		o := &runcoptions.Options{}
		if err := typeurl.UnmarshalTo(got, o); err != nil || o.IoUid != 100000 || o.IoGid != 200000 || c.rt.Options != nil && o.BinaryName != "b" {
			t.Errorf("%s: %v, %v", c.name, o, err)
		}
	}
}

func TestCheckIDs(t *testing.T) {
	plain := []mount.Mount{{Type: "overlay", Options: []string{"index=off"}}}
	for _, c := range []struct {
		name   string
		mounts []mount.Mount
		ids    userns.Mapping
		ok     bool
	}{
		{"none", plain, userns.Mapping{}, true},
		{"as asked for", withIDs(plain, remapped), remapped, true},
		{"a snapshotter that does not know", plain, remapped, false},
		{"of another", withIDs(plain, remapped), userns.Mapping{UIDMaps: remapped.UIDMaps, GIDMaps: remapped.UIDMaps}, false},
		{"nobody asked", withIDs(plain, remapped), userns.Mapping{}, false},
	} {
		if err := checkIDs(c.mounts, c.ids); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if len(plain[0].Options) != 1 {
		t.Error("the given mounts were changed")
	}
}
