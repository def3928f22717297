package container_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

func TestSpecWithoutLinux(t *testing.T) {
	b := newBed(t)
	s := b.spec("true")
	s.Linux = nil
	if _, err := b.create(s, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
	if _, err := container.Plan(container.CreateOptions{ID: "c1", Bundle: b.bundle, Spec: s}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("plan: %v", err)
	}
}

// TestCreatorDies: what a killed Create has made can be found and deleted. The
// killer is a hook of the container.
func TestCreatorDies(t *testing.T) {
	if raw := os.Getenv("CREATE"); raw != "" {
		var o container.CreateOptions
		if err := json.Unmarshal([]byte(raw), &o); err != nil {
			t.Fatal(err)
		}
		_, err := container.Create(context.Background(), o)
		t.Fatalf("survived: %v", err)
	}
	b := newBed(t)
	s := b.spec("true")
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "kill -9 $PPID"}}}}
	raw, err := json.Marshal(map[string]any{"ID": "c1", "Bundle": b.bundle, "Root": b.root, "Spec": s})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestCreatorDies$")
	cmd.Env = append(os.Environ(), "CREATE="+string(raw))
	if out, err := cmd.CombinedOutput(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("%v: %s", err, out)
	}
	c, err := container.Load(b.root, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := c.State(); st.Status != specs.StateCreating {
		t.Errorf("status %s", st.Status)
	}
	if _, err := b.create(b.spec("true"), nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("create again: %v", err)
	}
	if err := c.Start(context.Background()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("start: %v", err)
	}
	if err := c.Kill(context.Background(), unix.SIGTERM, false); !errdefs.IsNotFound(err) {
		t.Errorf("kill: %v", err)
	}
	if err := c.Delete(context.Background(), false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete: %v", err)
	}
	if err := c.Delete(context.Background(), true); err != nil {
		t.Errorf("delete by force: %v", err)
	}
}

// TestEmptyStateDirectory: one without a record is nobody's.
func TestEmptyStateDirectory(t *testing.T) {
	b := newBed(t)
	if err := os.MkdirAll(filepath.Join(b.root, "c1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, _ := b.run(b.spec("echo", "hi")); out != "hi\n" {
		t.Errorf("output %q", out)
	}
}

// TestStartSocketIsOurs: whoever may connect to it starts the container.
func TestStartSocketIsOurs(t *testing.T) {
	b := newBed(t)
	defer unix.Umask(unix.Umask(0))
	if _, err := b.create(b.spec("true"), nil); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(b.root, "c1", "start.sock"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// TestExecBesideDeath: whenever the init ends, an exec fails with the class that
// says so.
func TestExecBesideDeath(t *testing.T) {
	for range 8 {
		b := newBed(t)
		c, err := b.create(b.spec("sleep", "100"), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if err := c.Start(ctx); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			if n == 2 {
				go c.Kill(ctx, unix.SIGKILL, false)
			}
			p, err := c.Exec(ctx, container.ExecOptions{Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}})
			if err == nil {
				b.wait(p.PidFD)
				p.PidFD.Close()
				continue
			}
			if !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("exec %d: %v", n, err)
			}
			break
		}
	}
}

// TestProcOnALink: where an image's link decides what is masked, nothing is.
func TestProcOnALink(t *testing.T) {
	b := newBed(t)
	if err := os.RemoveAll(b.rootfs() + "/proc"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("tmp", b.rootfs()+"/proc"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.create(b.spec("true"), nil); !errors.Is(err, unix.ELOOP) {
		t.Errorf("error %v", err)
	}
}

func TestMemoryTooSmall(t *testing.T) {
	b := newBed(t)
	s := b.spec("true")
	limit := int64(16 << 10)
	s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	if _, err := b.create(s, nil); err == nil || !strings.Contains(err.Error(), "OOM-killed") {
		t.Errorf("error %v", err)
	}
}
