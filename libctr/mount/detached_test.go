package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/need"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/mount"
)

// TestWithDetached: the tree is there, the mount is not, with few layers and with more
// than fit on a page of options.
func TestWithDetached(t *testing.T) {
	need.Root(t, "mounts overlayfs")
	base := t.TempDir()
	for _, n := range []int{2, 100} {
		var dirs []string
		for i := range n {
			dir := filepath.Join(base, fmt.Sprint(n), strings.Repeat("x", 60), fmt.Sprint(i))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, dir)
		}
		m := coremount.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + strings.Join(dirs, ":")}}
		err := mount.WithDetached(t.Context(), []coremount.Mount{m}, func(root string) error {
			found, err := os.ReadDir(root + "/.")
			if len(found) != n {
				t.Errorf("%d of %d files", len(found), n)
			}
			if seen, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(seen), base) {
				t.Error("the mount can be seen")
			}
			return err
		})
		if err != nil {
			t.Errorf("%d layers: %v", n, err)
		}
	}
}
