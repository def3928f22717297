package builtin

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/need"
	"gantry/shim/process"
)

// TestCheckpoint has a container of the library checkpointed by grun, running on and
// ending.
func TestCheckpoint(t *testing.T) {
	need.Root(t, "runs containers")
	for _, name := range []string{"criu", "grun"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs", name, "in PATH:", err)
		}
	}
	if out, err := exec.Command("criu", "check").CombinedOutput(); err != nil {
		t.Skipf("criu does not work here: %s", bytes.TrimSpace(out))
	}
	bundle := t.TempDir()
	rootfs := busybox.Rootfs(t, bundle)
	mount := func(dest, kind string) specs.Mount { return specs.Mount{Destination: dest, Type: kind, Source: kind} }
	spec := &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: rootfs},
		Process: &specs.Process{Cwd: "/", Env: []string{"PATH=/bin"}, Args: []string{"sh", "-c", "while :; do echo x >>/log; sleep 0.1; done"}},
		Mounts:  []specs.Mount{mount("/proc", "proc"), mount("/dev", "tmpfs")},
		Linux: &specs.Linux{CgroupsPath: "/gantry-test-builtin-checkpoint", Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}}},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	rt := &Runtime{Root: filepath.Join(t.TempDir(), "state")}
	c, started, err := rt.Create(ctx, process.CreateOptions{ID: "c1", Bundle: bundle, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		c.Delete(context.WithoutCancel(ctx), true)
		if left, _ := os.ReadDir(rt.Root); len(left) > 0 {
			t.Errorf("left states: %v", left)
		}
	}()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	lines := func() int {
		b, _ := os.ReadFile(filepath.Join(rootfs, "log"))
		return strings.Count(string(b), "\n")
	}
	beyond := func(n int) {
		t.Helper()
		for lines() <= n {
			if ctx.Err() != nil {
				t.Fatalf("the container writes no more than %d lines", n)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	beyond(2)
	images := t.TempDir()
	if err := c.Checkpoint(ctx, process.CheckpointOptions{ImagePath: filepath.Join(images, "1")}); err != nil {
		t.Fatal(err)
	}
	beyond(lines())
	if err := c.Checkpoint(ctx, process.CheckpointOptions{ImagePath: filepath.Join(images, "2"), Exit: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(started.Pid, nil, 0, nil); err != nil {
		t.Error("wait:", err)
	}
	for _, n := range []string{"1", "2"} {
		if _, err := os.Stat(filepath.Join(images, n, "pstree.img")); err != nil {
			t.Error(err)
		}
	}
	if err := c.Delete(ctx, false); err != nil {
		t.Error(err)
	}
}
