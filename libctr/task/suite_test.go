package task_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/container"
	"gantry/libctr/event"
	"gantry/libctr/task"
	"gantry/libctr/task/tasktest"
)

// kept are records in memory.
type kept struct {
	container.Store
	mu sync.Mutex
	of map[string]container.Container // guarded by mu; by namespace and id
}

func (k *kept) Get(ctx context.Context, id string) (container.Container, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.of[reqctx.Namespace(ctx)+"/"+id]
	if !ok {
		return c, errdefs.NotFound("container %q in namespace %q: not found", id, reqctx.Namespace(ctx))
	}
	return c, nil
}

func (k *kept) Create(ctx context.Context, c container.Container) (container.Container, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of[reqctx.Namespace(ctx)+"/"+c.ID] = c
	return c, nil
}

func (k *kept) Delete(ctx context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, reqctx.Namespace(ctx)+"/"+id)
	return nil
}

// TestSuite: tasks of the manager itself, under our shim, whose events nobody takes.
func TestSuite(t *testing.T) {
	need.Root(t, "runs containers")
	bin := os.Getenv("GANTRY_BIN")
	if bin == "" {
		bin = "../../bin"
	}
	bin, err := filepath.Abs(bin)
	if err == nil {
		_, err = os.Stat(filepath.Join(bin, "containerd-shim-gantry-v2"))
	}
	if err != nil {
		t.Skipf("needs the built shim (make build): %v", err)
	}
	dir, err := os.MkdirTemp("", "task") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	records := &kept{of: map[string]container.Container{}}
	m, err := task.New(t.Context(), task.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), SocketDir: filepath.Join(dir, "s"), ShimDir: bin,
		Address: filepath.Join(dir, "none"), TTRPCAddress: filepath.Join(dir, "none.ttrpc"), Binary: "/bin/true",
		Containers: records, Events: event.NewExchange(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	tasktest.Run(t, tasktest.Core{Tasks: m, Containers: records, Runtime: "io.containerd.gantry.v2", Rootfs: busybox.Rootfs(t, t.TempDir())})
}
