package services_test

import (
	"path/filepath"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	"gantry/libctr/client"
	"gantry/libctr/server"
	"gantry/libctr/task/tasktest"
)

// TestTasks: tasks over gRPC, with our shim and with runc's.
func TestTasks(t *testing.T) {
	need.Root(t, "runs containers")
	dir, rootfs := ourShim(t), busybox.Rootfs(t, t.TempDir())
	c, err := client.New(coretest.Serve(t, func(c *server.Config) { c.ShimDir = dir }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, name := range []string{"io.containerd.gantry.v2", runcShim(t)} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			tasktest.Run(t, tasktest.Core{Tasks: c.Tasks(), Containers: c.Containers(), Runtime: name, Rootfs: rootfs})
		})
	}
}

// TestTasksOfReference runs the suite over a real containerd, with its shim and with ours.
func TestTasksOfReference(t *testing.T) {
	need.Root(t, "runs containers")
	ref, rootfs := coretest.Containerd(t), busybox.Rootfs(t, t.TempDir())
	for _, name := range []string{runcShim(t), filepath.Join(ourShim(t), "containerd-shim-gantry-v2")} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			tasktest.Run(t, tasktest.Core{Tasks: ref.Tasks(), Containers: ref.Containers(), Runtime: name, Rootfs: rootfs})
		})
	}
}
