package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzRecord: a state.json of whatever content is an error or a record with what all that
// use it rely on, which saves and loads as it is.
func FuzzRecord(f *testing.F) {
	whole := record{ID: "c", Pid: 5, Bundle: "/b", Rootfs: "/r", Cgroups: map[string]string{"": "/sys/fs/cgroup/c"},
		Spec: &specs.Spec{Version: "1.0.0", Process: &specs.Process{Args: []string{"a"}}, Root: &specs.Root{Path: "/r"}, Linux: &specs.Linux{}}}
	b, err := whole.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"id":"c","config":{"process":{},"root":{},"linux":null}}`))
	f.Add([]byte(`{"id":"c","config":null,"created":"never"}`))
	root := f.TempDir()
	dir := filepath.Join(root, "c")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, recordName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := loadRecord(root, "c")
		if err != nil {
			return
		}
		if r.ID != "c" || r.Spec == nil || r.Spec.Linux == nil || r.Spec.Process == nil || r.Spec.Root == nil {
			t.Fatalf("%+v", r)
		}
		if err := r.save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := loadRecord(root, "c")
		if err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(r.Spec)
		y, _ := json.Marshal(again.Spec)
		if string(x) != string(y) || r.Pid != again.Pid || r.Rootfs != again.Rootfs {
			t.Errorf("%s, again %s", x, y)
		}
	})
}
