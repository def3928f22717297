package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// TestMountAside tries the way of kernels before 6.5 on this one.
func TestMountAside(t *testing.T) {
	need.Root(t, "mounts a file system")
	a, b := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(a, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l := layers{lower: []string{a, b}, rest: []string{"index=off"}, readOnly: true}
	fd, err := mountOverlay(l)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Faccessat(fd, "file", unix.R_OK, 0); err != nil {
		t.Error(err)
	}
	if err := unix.Mkdirat(fd, "made", 0o755); err != unix.EROFS {
		t.Errorf("writing: %v", err)
	}
	if info, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(info), " /proc rw,nosuid,nodev,noexec - overlay") {
		t.Errorf("mounted for all to see, %v", err)
	}
}
