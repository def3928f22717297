package cgroup

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const (
	hybridMounts = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
99 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory
`
	hybridSelf = "9:name=systemd:/\n4:memory:/outer/one\n1:cpu,cpuacct:/\n0::/\n"
	v2Mounts   = "26 25 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	v1Nested   = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n"
)

func parse(t *testing.T, mounts, self string) *host {
	t.Helper()
	h, err := parseHost(strings.NewReader(mounts), strings.NewReader(self))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestKinds(t *testing.T) {
	for _, tc := range []struct {
		mounts, self string
		want         Kind
	}{
		{hybridMounts, hybridSelf, Hybrid},
		{v2Mounts, "0::/user.slice\n", V2},
		{v1Nested, "4:memory:/docker/abc\n", V1},
	} {
		if got := parse(t, tc.mounts, tc.self).kind; got != tc.want {
			t.Errorf("%v, want %v", got, tc.want)
		}
	}
	_, err := parseHost(strings.NewReader("1 0 0:1 / / rw - ext4 /dev/vda rw\n"), strings.NewReader(""))
	if !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("nothing mounted: %v", err)
	}
}

func TestPaths(t *testing.T) {
	for _, tc := range []struct {
		why, mounts, self, path string
		want                    map[string]string
	}{
		{"absolute; combined controllers share a directory", hybridMounts, hybridSelf, "/gantry/x", map[string]string{
			"cpu": "/sys/fs/cgroup/cpu,cpuacct/gantry/x", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/gantry/x",
			"memory": "/sys/fs/cgroup/memory/gantry/x", "name=systemd": "/sys/fs/cgroup/systemd/gantry/x", "": "/sys/fs/cgroup/unified/gantry/x"}},
		{"relative to where we are", hybridMounts, hybridSelf, "x", map[string]string{
			"cpu": "/sys/fs/cgroup/cpu,cpuacct/x", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/x",
			"memory": "/sys/fs/cgroup/memory/outer/one/x", "name=systemd": "/sys/fs/cgroup/systemd/x", "": "/sys/fs/cgroup/unified/x"}},
		{"no way out", v2Mounts, "0::/a\n", "/../../etc/../x", map[string]string{"": "/sys/fs/cgroup/x"}},
		{"no way out, relative", v2Mounts, "0::/a\n", "../../x", map[string]string{"": "/sys/fs/cgroup/x"}},
		{"relative to what is above us, which may hold controllers", v2Mounts, "0::/user.slice/one\n", "x", map[string]string{"": "/sys/fs/cgroup/user.slice/x"}},
		{"the mount shows an outer container's part", v1Nested, "4:memory:/docker/abc/in\n", "x", map[string]string{"memory": "/sys/fs/cgroup/memory/in/x"}},
		{"we are outside of what is mounted", v1Nested, "4:memory:/\n", "x", map[string]string{"memory": "/sys/fs/cgroup/memory/x"}},
		{"a systemd path is just a name here", v2Mounts, "0::/\n", "/system.slice:g:x", map[string]string{"": "/sys/fs/cgroup/system.slice:g:x"}},
	} {
		h := parse(t, tc.mounts, tc.self)
		ds, err := h.dirs(tc.path)
		if err != nil {
			t.Errorf("%s: %v", tc.why, err)
			continue
		}
		if got := keyed(ds); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v\nwant %v", tc.why, got, tc.want)
		}
		again, err := h.load(keyed(ds))
		if err != nil || !reflect.DeepEqual(again, ds) {
			t.Errorf("%s: loaded %v %v", tc.why, again, err)
		}
	}
}

func TestBadPaths(t *testing.T) {
	h := parse(t, v2Mounts, "0::/\n")
	for _, p := range []string{"", "/", "..", "/a/..", "a\x00b", "a\nb", strings.Repeat("x", 5000)} {
		if _, err := h.dirs(p); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%.20q: %v", p, err)
		}
	}
	for _, p := range []string{"/etc", "/sys/fs/cgroup", "/sys/fs/cgroup/../x", "/sys/fs/cgroupx"} {
		if _, err := h.load(map[string]string{"": p}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("load %q: %v", p, err)
		}
	}
	if _, err := h.load(map[string]string{"memory": "/sys/fs/cgroup/memory/x"}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("no hierarchy of it is mounted: %v", err)
	}
}

func TestThisHost(t *testing.T) {
	t.Logf("mode %v", Mode())
	if Mode() == 0 {
		t.Fatal("no cgroups found")
	}
}

// TestCgroupLines: a long line and what looks like a mount in the midst of it are passed over.
func TestCgroupLines(t *testing.T) {
	long := "50 23 0:40 / /data rw - overlay overlay rw,lowerdir=" + strings.Repeat("/layer:", 2000) + " - cgroup\n"
	r, err := cgroupLines(strings.NewReader(long + hybridMounts + long + v2Mounts))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	_, want, _ := strings.Cut(hybridMounts, "\n") // the first is a tmpfs
	if err != nil || string(got) != want+v2Mounts {
		t.Errorf("%q, %v", got, err)
	}
}
