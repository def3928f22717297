package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/activation/activationtest"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/task"
)

// TestMounts holds the mount manager to its suite, over gRPC.
func TestMounts(t *testing.T) {
	activationtest.Run(t, func(t *testing.T) activationtest.Subject {
		c := start(t, newConfig(t))
		leases := c.client.Leases()
		return activationtest.Subject{
			Manager: c.client.Mounts(),
			Root:    c.cfg.Root,
			Collect: func(ctx context.Context) error { // as a client can ask for one
				l, err := leases.Create(ctx, "", nil)
				if err != nil {
					return err
				}
				return leases.Delete(ctx, l.ID, true)
			},
			Lease: func(ctx context.Context) (context.Context, func() error) {
				l, err := leases.Create(ctx, "", nil)
				if err != nil {
					t.Fatal(err)
				}
				return lease.With(ctx, l.ID), func() error { return leases.Delete(ctx, l.ID, true) }
			},
		}
	})
}

// TestTaskOnActivatedMounts gives a task mounts that its shim cannot make.
func TestTaskOnActivatedMounts(t *testing.T) {
	onEachShim(t, func(t *testing.T, c *core) {
		ctx := testNamespace(t)
		root := userland(t)
		s := spec("rootfs", "a", "sleep", "1000")
		c.record(t, ctx, "a", s)
		rootfs := []mount.Mount{
			{Type: "format/bind", Source: root, Options: []string{"rbind", "ro"}},
			{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
				"lowerdir={{ mount 0 }}", "upperdir=" + c.cfg.Root + "/upper", "workdir=" + c.cfg.Root + "/work",
				"X-containerd.mkdir.path=" + c.cfg.Root + "/upper:0755", "X-containerd.mkdir.path=" + c.cfg.Root + "/work",
			}},
		}
		tasks := c.client.Tasks()
		bad := append(rootfs[:1:1], mount.Mount{Type: "format/overlay", Source: "overlay", Options: []string{"lowerdir={{ mount 7 }}"}})
		if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "a", Rootfs: bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("mounts that can't be: %v", err)
		}
		c.noActivation(t, ctx)
		if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "a", Rootfs: rootfs, IO: task.IO{Stdout: "/no/such/fifo"}}); err == nil {
			t.Error("created without a stream")
		}
		c.noActivation(t, ctx)
		for range 2 { // the second finds the directories
			if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "a", Rootfs: rootfs}); err != nil {
				t.Fatal(err)
			}
			pid, err := tasks.Start(ctx, "a", "")
			if err != nil {
				t.Fatal(err)
			}
			info, err := c.client.Mounts().Info(ctx, "a")
			if err != nil || len(info.Active) != 1 || len(info.System) != 1 || info.System[0].Type != "overlay" {
				t.Fatalf("%+v, %v", info, err)
			}
			collectNow(t, ctx, c) // it is held by the container
			if err := os.WriteFile(filepath.Join("/proc", fmt.Sprint(pid), "root/tmp/file"), []byte("x"), 0o644); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(c.cfg.Root, "upper/tmp/file")); err != nil {
				t.Errorf("what the container writes: %v", err)
			}
			cfg, runtime := c.cfg, c.runtime
			c.stop(t)
			c = start(t, cfg)
			c.runtime, tasks = runtime, c.client.Tasks()
			if _, err := c.client.Mounts().Info(ctx, "a"); err != nil {
				t.Errorf("after the restart: %v", err)
			}
			if err := tasks.Kill(ctx, "a", "", 9, true); err != nil {
				t.Error(err)
			}
			if _, err := tasks.Wait(ctx, "a", ""); err != nil {
				t.Error(err)
			}
			if _, err := tasks.Delete(ctx, "a", ""); err != nil {
				t.Fatal(err)
			}
			c.noActivation(t, ctx)
		}
		if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "a", Rootfs: rootfs}); err != nil {
			t.Fatal(err)
		}
		kill(t, uint32(c.shimOf(t, "a")))
		eventually(t, "deactivation after the death of a shim", func() error {
			_, err := c.client.Mounts().Info(ctx, "a")
			if errdefs.IsNotFound(err) {
				return nil
			}
			return os.ErrExist
		})
		c.remove(t, ctx, "a")
		c.noneLeft(t)
	})
}

// collectNow runs a collection as a client can.
func collectNow(t *testing.T, ctx context.Context, c *core) {
	t.Helper()
	l, err := c.client.Leases().Create(ctx, "", nil)
	if err == nil {
		err = c.client.Leases().Delete(ctx, l.ID, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *core) noActivation(t *testing.T, ctx context.Context) {
	t.Helper()
	var all []activation.Activation
	all, err := c.client.Mounts().List(ctx)
	if err != nil || len(all) != 0 {
		t.Errorf("activations of %s: %v, %v", reqctx.Namespace(ctx), all, err)
	}
}
