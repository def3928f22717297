package integrationcli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// TestStorageOpt has an engine on a file system that keeps project quotas, and
// containers that write more than they may.
func TestStorageOpt(t *testing.T) {
	dir, err := os.MkdirTemp("", "gq") // short: sockets are below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	disk, place := filepath.Join(dir, "disk"), filepath.Join(dir, "m")
	if err := errors.Join(os.Mkdir(place, 0o755), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 600<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.xfs", "-q", disk).CombinedOutput(); err != nil {
		t.Skipf("mkfs.xfs: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", disk, place).CombinedOutput(); err != nil {
		t.Skipf("the kernel keeps no project quotas on xfs: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", place).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	t.Setenv(engine.DirVariable, place)
	e := start(t)
	write := func(mb string) []string {
		return []string{"sh", "-c", "dd if=/dev/zero of=/root/f bs=1M count=" + mb + " 2>&1 | grep -c 'No space left\\|Disk quota'"}
	}
	for _, tc := range []struct{ size, mb, want string }{{"8m", "6", "0"}, {"8m", "10", "1"}, {"0", "10", "0"}} {
		got := e.Docker(append([]string{"run", "--rm", "--storage-opt", "size=" + tc.size, image}, write(tc.mb)...)...)
		if strings.TrimSpace(got.Stdout) != tc.want {
			t.Errorf("%s MiB of %s: %+v", tc.mb, tc.size, got)
		}
	}
	e.Must("run", "--name", "kept", "--storage-opt", "size=8m", image, "sh", "-c", "dd if=/dev/zero of=/f bs=1M count=5 2>/dev/null; true")
	e.Kill()
	e.Launch()
	e.Must("start", "-a", "kept")
	if got := e.Docker("cp", disk, "kept:/g"); got.Code == 0 {
		t.Errorf("a copy above the limit: %+v", got)
	}
	if got := e.Docker("create", "--storage-opt", "size=x", image); !strings.Contains(got.Stderr, "invalid size: 'x'") {
		t.Errorf("a bad size: %+v", got)
	}
	e.Clean(t)
}
