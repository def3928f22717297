package host_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gantry/daemon/host"
	"gantry/internal/testutil/need"
)

// TestRemoveCgroup keeps a cgroup as long as there is another in it.
func TestRemoveCgroup(t *testing.T) {
	need.Root(t, "makes cgroups")
	name := fmt.Sprintf("gantry-test-parent-%d", os.Getpid())
	root := "/sys/fs/cgroup"
	for _, v1 := range []string{"pids", "memory"} {
		if _, err := os.Stat(filepath.Join(root, v1)); err == nil {
			root = filepath.Join(root, v1)
			break
		}
	}
	parent := filepath.Join(root, name)
	child := filepath.Join(parent, "child")
	if err := os.MkdirAll(child, 0o755); err != nil {
		t.Skip("cgroups are not ours to make: ", err)
	}
	defer os.Remove(parent)
	defer os.Remove(child)
	for _, c := range []struct {
		before func() error
		left   bool
	}{
		{func() error { return nil }, true},
		{func() error { return os.Remove(child) }, false},
		{func() error { return nil }, false},
	} {
		if err := c.before(); err != nil {
			t.Fatal(err)
		}
		if err := host.RemoveCgroup("/" + name); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(parent); (err == nil) != c.left {
			t.Errorf("%s: %v, want it to be left: %v", parent, err, c.left)
		}
	}
}
