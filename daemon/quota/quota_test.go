package quota_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/daemon/quota"
	"gantry/internal/testutil/need"
)

func TestSize(t *testing.T) {
	for _, tc := range []struct {
		options map[string]string
		want    int64
		err     string
	}{
		{},
		{options: map[string]string{"size": "10m"}, want: 10 << 20},
		{options: map[string]string{"Size": "4096"}, want: 4096},
		{options: map[string]string{"size": "x"}, err: "invalid size: 'x'"},
		{options: map[string]string{"inodes": "1"}, err: "unknown option inodes"},
	} {
		got, err := quota.Size(tc.options)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tc.want || text != tc.err {
			t.Errorf("%v: %d, %q", tc.options, got, text)
		}
	}
}

func TestUnsupported(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skip("no tmpfs can be mounted: ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // the test's own
	if err := quota.Limit(1<<20, dir); !errors.Is(err, quota.ErrUnsupported) {
		t.Errorf("limit on a tmpfs: %v", err)
	}
	if err := quota.Release(dir); err != nil {
		t.Errorf("release on a tmpfs: %v", err)
	}
}

// fileSystem mounts a new file system with project quotas.
func fileSystem(t *testing.T, kind string, options ...string) string {
	t.Helper()
	need.Root(t, "mounts a file system")
	dir, err := os.MkdirTemp("", "quota")
	if err == nil {
		err = os.Chmod(dir, 0o755) // users must get below
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image, place := filepath.Join(dir, "image"), filepath.Join(dir, "place")
	if err := errors.Join(os.Mkdir(place, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs."+kind, append(options, "-q", image)...).CombinedOutput(); err != nil {
		t.Skipf("mkfs.%s: %v %s", kind, err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, place).CombinedOutput(); err != nil {
		t.Skipf("the kernel keeps no project quotas on %s: %s", kind, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", place).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return place
}

// write writes a file of some MiB as a user: ext4 holds no process to its limit that has
// CAP_SYS_RESOURCE.
func write(path string, mb int) error {
	cmd := exec.Command("sh", "-c", fmt.Sprintf("head -c %d /dev/zero > %s", mb<<20, path))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestLimit(t *testing.T) {
	for kind, options := range map[string][]string{"xfs": nil, "ext4": {"-O", "quota,project", "-E", "quotatype=prjquota"}} {
		t.Run(kind, func(t *testing.T) {
			root := fileSystem(t, kind, options...)
			upper, work, free := filepath.Join(root, "upper"), filepath.Join(root, "work"), filepath.Join(root, "free")
			for _, d := range []string{upper, work, free} {
				if err := errors.Join(os.Mkdir(d, 0o755), os.Chown(d, 1000, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			if err := quota.Limit(8<<20, upper, work); err != nil {
				t.Fatal(err)
			}
			if err := write(work+"/f", 6); err != nil {
				t.Errorf("below the limit: %v", err)
			}
			if err := os.Rename(work+"/f", upper+"/f"); err != nil {
				t.Errorf("a rename within the project: %v", err)
			}
			if err := write(upper+"/g", 4); err == nil {
				t.Error("above the limit")
			}
			if err := write(free+"/f", 9); err != nil {
				t.Errorf("beside the project: %v", err)
			}
			if err := quota.Release(upper); err != nil {
				t.Fatal(err)
			}
			if err := write(upper+"/g", 9); err != nil {
				t.Errorf("released: %v", err)
			}
		})
	}
}
