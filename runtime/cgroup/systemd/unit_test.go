package systemd

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestParsePath(t *testing.T) {
	for _, tc := range []struct {
		why, path  string
		user       bool
		name, at   string
		slice, err string
	}{
		{"dockerd's", "system.slice:docker:abc", false, "docker-abc.scope", "/system.slice/docker-abc.scope", "system.slice", ""},
		{"the kubelet's", "kubepods-burstable-pod1.slice:cri-containerd:abc", false, "cri-containerd-abc.scope",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope", "kubepods-burstable-pod1.slice", ""},
		{"none", "", false, "grun-box.scope", "/system.slice/grun-box.scope", "system.slice", ""},
		{"none of a user", "", true, "grun-box.scope", "/user.slice/grun-box.scope", "user.slice", ""},
		{"podman's", "user.slice:libpod:abc", true, "libpod-abc.scope", "/user.slice/libpod-abc.scope", "user.slice", ""},
		{"the root slice", "-.slice:x:y", false, "x-y.scope", "/x-y.scope", "-.slice", ""},
		{"a slice is no scope", "system.slice:x:a-b.slice", false, "a-b.slice", "/a.slice/a-b.slice", "system.slice", ""},
		{"a path of cgroupfs", "/docker/abc", false, "", "", "", `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/docker/abc" instead`},
		{"one part more", "a.slice:b:c:d", false, "", "", "", "of format"},
		{"no slice", "docker:x:y", false, "", "", "", "invalid slice name: docker"},
		{"an empty part", "a--b.slice:x:y", false, "", "", "", "invalid slice name: a--b.slice"},
		{"nothing but the ending", ".slice:x:y", false, "", "", "", "invalid slice name: .slice"},
		{"out of the slice", "a/../b.slice:x:y", false, "", "", "", "invalid slice name"},
		{"a path as a name", "a.slice:x:../../y", false, "", "", "", "unit name"},
		{"a long name", "a.slice:x:" + strings.Repeat("y", 300), false, "", "", "", "unit name"},
	} {
		u, err := ParsePath(tc.path, "box", tc.user)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) || !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", tc.why, err)
			}
			continue
		}
		at, e := u.Path()
		if err != nil || e != nil || u.Name != tc.name || at != tc.at || u.Slice != tc.slice || u.User != tc.user {
			t.Errorf("%s: %+v at %s: %v %v", tc.why, u, at, err, e)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for in, want := range map[string]int{"252.36-1~deb12u1": 252, "v245.4-1.fc32": 245, "257": 257} {
		if got, err := parseVersion(in); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	if _, err := parseVersion("none"); err == nil {
		t.Error("no number, and no error")
	}
}
