package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

// TestSweepTemp takes away the mount of a process that was killed, and no other.
func TestSweepTemp(t *testing.T) {
	need.Root(t, "mounts")
	if os.Getenv("MOUNT_AND_WAIT") != "" {
		_ = WithTemp(t.Context(), []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}, func(dir string) error {
			fmt.Println(dir)
			select {}
		})
		return
	}
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.Command(os.Args[0], "-test.run=^TestSweepTemp$")
	cmd.Env = append(os.Environ(), "MOUNT_AND_WAIT=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var left string
	_, err = fmt.Fscanln(out, &left)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(left, unix.MNT_DETACH) //nolint:errcheck // when the test fails
	strangers := filepath.Join(os.TempDir(), tempPrefix+"1.1-full")
	if err := os.MkdirAll(filepath.Join(strangers, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	err = WithTemp(t.Context(), []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
			return err
		}
		if err := SweepTemp(); err != nil {
			return err
		}
		_, err := os.Stat(filepath.Join(dir, "mine"))
		return err
	})
	if err != nil {
		t.Errorf("a mount in use: %v", err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(strangers, "x")); err != nil {
		t.Errorf("somebody else's directory: %v", err)
	}
}
