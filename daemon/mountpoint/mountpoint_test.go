package mountpoint_test

import (
	"slices"
	"strings"
	"testing"

	mounttypes "github.com/docker/docker/api/types/mount"

	"gantry/daemon/mountpoint"
)

func TestParseBind(t *testing.T) {
	tests := []struct {
		raw, err string
		want     mountpoint.Point
	}{
		{raw: "/host:/c", want: mountpoint.Point{Type: "bind", Source: "/host", Destination: "/c", RW: true, Propagation: "rprivate", CreateSource: true}},
		{raw: "/host/../x:/c/./d:ro", want: mountpoint.Point{Type: "bind", Source: "/x", Destination: "/c/d", Mode: "ro", Propagation: "rprivate", CreateSource: true}},
		{raw: "/h:/c:ro,rslave", want: mountpoint.Point{Type: "bind", Source: "/h", Destination: "/c", Mode: "ro,rslave", Propagation: "rslave", CreateSource: true}},
		{raw: "vol:/c", want: mountpoint.Point{Type: "volume", Name: "vol", Destination: "/c", RW: true, CopyData: true}},
		{raw: "vol:/c:nocopy", want: mountpoint.Point{Type: "volume", Name: "vol", Destination: "/c", Mode: "nocopy", RW: true}},
		{raw: "/anon", want: mountpoint.Point{Type: "volume", Destination: "/anon", RW: true, CopyData: true, Anonymous: true}},
		{raw: "vol:/c:cached,z", want: mountpoint.Point{Type: "volume", Name: "vol", Destination: "/c", Mode: "cached,z", RW: true, CopyData: true}},
		{raw: "", err: "invalid volume specification: ''"},
		{raw: "/foo:rw", err: "invalid volume specification: '/foo:rw'"},
		{raw: ":/c", err: "invalid volume specification: ':/c'"},
		{raw: "/a:/b:ro:z", err: "invalid volume specification: '/a:/b:ro:z'"},
		{raw: "/a:/b:bad", err: "invalid mode: bad"},
		{raw: "/a:/b:ro,rw", err: "invalid mode: ro,rw"},
		{raw: "/a:/", err: "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"},
		{raw: "/a:b", err: "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute"},
		{raw: "/a:/b:nocopy", err: "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified"},
		{raw: "v:/b:rslave", err: "invalid volume specification: 'v:/b:rslave': invalid mount config for type \"volume\": field BindOptions must not be specified"},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			got, err := mountpoint.ParseBind(tt.raw, "")
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			got.Spec = mounttypes.Mount{}
			if err != nil || got != tt.want {
				t.Fatalf("%+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	exists := func(p string) (bool, error) { return p == "/there", nil }
	tests := []struct {
		name, err string
		m         mounttypes.Mount
	}{
		{name: "bind", m: mounttypes.Mount{Type: "bind", Source: "/there", Target: "/t"}},
		{name: "no target", m: mounttypes.Mount{Type: "bind"}, err: "field Target must not be empty"},
		{name: "missing", m: mounttypes.Mount{Type: "bind", Source: "/x", Target: "/t"}, err: "bind source path does not exist: /x"},
		{name: "made", m: mounttypes.Mount{Type: "bind", Source: "/x", Target: "/t", BindOptions: &mounttypes.BindOptions{CreateMountpoint: true}}},
		{name: "propagation", m: mounttypes.Mount{Type: "bind", Source: "/there", Target: "/t", BindOptions: &mounttypes.BindOptions{Propagation: "x"}}, err: "invalid propagation mode: x"},
		{name: "anonymous ro", m: mounttypes.Mount{Type: "volume", Target: "/t", ReadOnly: true}, err: "must not set ReadOnly mode when using anonymous volumes"},
		{name: "subpath", m: mounttypes.Mount{Type: "volume", Source: "v", Target: "/t", VolumeOptions: &mounttypes.VolumeOptions{Subpath: "../x"}}, err: "subpath must be a relative path within the volume"},
		{name: "tmpfs source", m: mounttypes.Mount{Type: "tmpfs", Source: "x", Target: "/t"}, err: "field Source must not be specified"},
		{name: "tmpfs option", m: mounttypes.Mount{Type: "tmpfs", Target: "/t", TmpfsOptions: &mounttypes.TmpfsOptions{Options: [][]string{{"suid"}}}}, err: "invalid option: suid"},
		{name: "type", m: mounttypes.Mount{Type: "npipe", Target: "/t"}, err: "mount type unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := mountpoint.Check(&tt.m, exists)
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.HasSuffix(err.Error(), ": "+tt.err) {
				t.Fatalf("error %v, want %s", err, tt.err)
			}
		})
	}
}

func TestTmpfs(t *testing.T) {
	data, err := mountpoint.TmpfsData(&mounttypes.TmpfsOptions{SizeBytes: 64 << 20, Mode: 0o1777, Options: [][]string{{"exec"}}}, true)
	if err != nil || data != "ro,mode=1777,size=64m,exec" {
		t.Fatalf("%q %v", data, err)
	}
	got, err := mountpoint.MergeTmpfs([]string{"noexec", "nosuid", "nodev", "rprivate", "exec", "size=1k", "size=2k", "rw"})
	if want := []string{"nosuid", "nodev", "rprivate", "exec", "size=2k", "rw"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v %v", got, err)
	}
	if _, err := mountpoint.MergeTmpfs([]string{"bogus=1"}); err == nil {
		t.Fatal("bogus option taken")
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "v:/c", "::", "/x", "a:b:c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if p, err := mountpoint.ParseBind(raw, ""); err == nil && !strings.HasPrefix(p.Destination, "/") {
			t.Fatalf("%q: destination %q", raw, p.Destination)
		}
	})
}
