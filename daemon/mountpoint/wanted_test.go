package mountpoint_test

import (
	"slices"
	"strings"
	"testing"

	mounttypes "github.com/docker/docker/api/types/mount"

	"gantry/daemon/mountpoint"
)

func TestWanted(t *testing.T) {
	bind := func(src, dst string) mounttypes.Mount {
		return mounttypes.Mount{Type: mounttypes.TypeBind, Source: src, Target: dst, ReadOnly: true}
	}
	set := func(dsts ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, d := range dsts {
			m[d] = struct{}{}
		}
		return m
	}
	inherited := []mountpoint.Point{{Type: mounttypes.TypeVolume, Name: "other", Destination: "/data"}, {Type: mounttypes.TypeVolume, Name: "kept", Destination: "/kept"}}
	for name, tc := range map[string]struct {
		wanted mountpoint.Wanted
		want   string // "destination=name or source", by destination
		err    string
	}{
		"nothing":          {},
		"all kinds":        {wanted: mountpoint.Wanted{Inherited: inherited, Binds: []string{"/src:/data", "named:/v"}, Mounts: []mounttypes.Mount{bind("/m", "/mnt")}, Volumes: set("/new", "/kept", "/mnt")}, want: "/data=/src /kept=kept /mnt=/m /new= /v=named"},
		"a bind twice":     {wanted: mountpoint.Wanted{Binds: []string{"/a:/d", "/b:/d/"}}, err: "Duplicate mount point: /d"},
		"a bind and mount": {wanted: mountpoint.Wanted{Binds: []string{"/a:/d"}, Mounts: []mounttypes.Mount{bind("/b", "/d/")}}, err: "Duplicate mount point: /d/"},
		"a bind and tmpfs": {wanted: mountpoint.Wanted{Binds: []string{"/a:/d"}, Tmpfs: map[string]string{"/d": ""}}, err: "Duplicate mount point: /d"},
		"no bind":          {wanted: mountpoint.Wanted{Binds: []string{":::"}}, err: "invalid volume specification"},
		"no volume":        {wanted: mountpoint.Wanted{Volumes: set("relative")}, err: "mount path must be absolute"},
		"the daemon's root": {wanted: mountpoint.Wanted{Root: "/var/lib/x", Mounts: []mounttypes.Mount{{
			Type: mounttypes.TypeBind, Source: "/var", Target: "/d", BindOptions: &mounttypes.BindOptions{Propagation: mounttypes.PropagationPrivate},
		}}}, err: "must use either propagation mode"},
	} {
		points, err := tc.wanted.Points()
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %s", name, err, tc.err)
			}
			continue
		}
		var got []string
		for _, p := range points {
			got = append(got, p.Destination+"="+p.Name+p.Source)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); err != nil || s != tc.want {
			t.Errorf("%s: %s, %v", name, s, err)
		}
	}
	if len(inherited) != 2 || inherited[0].Name != "other" {
		t.Errorf("what another container has was changed: %+v", inherited)
	}
}

func TestWantedTopReadOnly(t *testing.T) {
	w := mountpoint.Wanted{TopReadOnly: true, Binds: []string{"/a:/d:ro"}}
	points, err := w.Points()
	if err != nil || len(points) != 1 || points[0].Spec.BindOptions == nil || !points[0].Spec.BindOptions.ReadOnlyNonRecursive {
		t.Errorf("%+v, %v", points, err)
	}
}
