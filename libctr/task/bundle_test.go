package task

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
)

func testBundle(t *testing.T) *bundle {
	t.Helper()
	dir := t.TempDir()
	m := &Manager{cfg: Config{State: filepath.Join(dir, "state"), Root: filepath.Join(dir, "root")}}
	return m.bundleOf("ns", "one")
}

func gone(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

func TestBundle(t *testing.T) {
	b := testBundle(t)
	spec := &anypb.Any{Value: []byte(`{"ociVersion":"1.0.2"}`)}
	if err := b.create(spec, false); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(b.path, "config.json")); err != nil || string(got) != string(spec.Value) {
		t.Errorf("config.json %q, %v", got, err)
	}
	if to, err := os.Readlink(filepath.Join(b.path, "work")); err != nil || to != b.work {
		t.Errorf("work is %q, %v", to, err)
	}
	if st, err := os.Stat(b.path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := b.create(spec, false); !errdefs.IsAlreadyExists(err) {
		t.Errorf("made again: %v", err)
	}
	for range 2 { // the second finds nothing, which is fine
		if err := b.remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, b.path, b.work)
}

func TestBadSpecLeavesNothing(t *testing.T) {
	for name, spec := range map[string]*anypb.Any{
		"none": {}, "no json": {Value: []byte("{")},
	} {
		b := testBundle(t)
		if err := b.create(spec, false); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
		gone(t, b.path, b.work)
	}
}

func TestBundleOfRemappedContainer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: gives the bundle to a group")
	}
	b := testBundle(t)
	err := b.create(&anypb.Any{Value: []byte(`{"linux":{"gidMappings":[
		{"containerID":1,"hostID":5,"size":1},{"containerID":0,"hostID":100000,"size":65536}]}}`)}, false)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(b.path)
	if err != nil {
		t.Fatal(err)
	}
	if gid := st.Sys().(*syscall.Stat_t).Gid; gid != 100000 || st.Mode().Perm() != 0o710 {
		t.Errorf("group %d, mode %v", gid, st.Mode())
	}
}

// TestRemoveLeavesMountedFilesAlone: what is mounted in a bundle is detached, not
// deleted through.
func TestRemoveLeavesMountedFilesAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	b := testBundle(t)
	if err := b.create(&anypb.Any{Value: []byte(`{}`)}, false); err != nil {
		t.Fatal(err)
	}
	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(precious, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	rootfs := filepath.Join(b.path, "rootfs")
	for _, target := range []string{rootfs, filepath.Join(rootfs, "sub"), rootfs} {
		if err := unix.Mount(precious, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.remove(t.Context()); err != nil {
		t.Error(err)
	}
	gone(t, b.path, b.work)
	if _, err := os.Stat(filepath.Join(precious, "file")); err != nil {
		t.Errorf("deleted through a mount: %v", err)
	}
}
