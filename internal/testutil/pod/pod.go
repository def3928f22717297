// Package pod takes what only clients of the core have through its life: sandboxes, and
// mounts that the core makes.
package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/leak"
	"gantry/libctr/client"
	"gantry/libctr/core/activation"
	"gantry/libctr/core/container"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/task"
)

const (
	namespace = "pods"
	runtime   = "io.containerd.gantry.v2"
)

// Core is an engine's: Dir is the engine's directory.
type Core struct{ Socket, Dir string }

func (c Core) with(fn func(ctx context.Context, core *client.Client) error) error {
	ctx, cancel := context.WithTimeout(reqctx.WithNamespace(context.Background(), namespace), 30*time.Second)
	defer cancel()
	core, err := client.New(c.Socket)
	if err != nil {
		return err
	}
	defer core.Close()
	return fn(ctx, core)
}

// Live makes a sandbox, starts it and takes it away. What an earlier call has left goes
// first.
func (c Core) Live() error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		if err := noPod(ctx, core); err != nil {
			return err
		}
		controller, store := core.SandboxController("shim"), core.Sandboxes()
		s, err := store.Create(ctx, sandbox.Sandbox{ID: "pod", Sandboxer: "shim", Runtime: sandbox.Runtime{Name: runtime}})
		if err != nil {
			return err
		}
		if err := controller.Create(ctx, s, sandbox.CreateOptions{}); err != nil {
			return err
		}
		if _, err := controller.Start(ctx, "pod"); err != nil {
			return err
		}
		if err := controller.Shutdown(ctx, "pod"); err != nil {
			return err
		}
		return store.Delete(ctx, "pod")
	})
}

// NoPod takes away what Live has left.
func (c Core) NoPod() error { return c.with(noPod) }

func noPod(ctx context.Context, core *client.Client) error {
	return ignore(core.SandboxController("shim").Shutdown(ctx, "pod"), core.Sandboxes().Delete(ctx, "pod"))
}

// ignore joins errors but those that nothing was there.
func ignore(errs ...error) error {
	for i, err := range errs {
		if errdefs.IsNotFound(err) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Mounts makes mounts of every kind, a task on some, and takes all away.
func (c Core) Mounts() error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		if err := clear(ctx, core, id); err != nil {
			return err
		}
		if err := c.record(ctx, core); err != nil {
			return err
		}
		image := filepath.Join(c.Dir, "data/core/mounts.img")
		os.Remove(image)
		defer os.Remove(image)
		_, err := core.Mounts().Activate(ctx, "image", []mount.Mount{
			{Type: "tmpfs", Source: "tmpfs"},
			{Type: "mkfs/loop", Source: image, Options: []string{"X-containerd.mkfs.size=4MiB"}},
		}, activation.Options{Labels: map[string]string{"containerd.io/gc.bref.container": id}}) // or it may be collected
		if err != nil {
			return err
		}
		if err := core.Mounts().Deactivate(ctx, "image"); err != nil {
			return err
		}
		return c.task(ctx, core)
	})
}

// Unheld makes a mount that nothing holds and has it collected, now or a moment before.
func (c Core) Unheld() error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		_, err := core.Mounts().Activate(ctx, "unheld", []mount.Mount{{Type: "tmpfs", Source: "tmpfs"}}, activation.Options{Temporary: true})
		if err != nil {
			return err
		}
		l, err := core.Leases().Create(ctx, "", nil)
		if err != nil {
			return err
		}
		return core.Leases().Delete(ctx, l.ID, true) // collects
	})
}

const id = "on-mounts"

// clear takes away a container, in whatever state it is.
func clear(ctx context.Context, core *client.Client, id string) error {
	tasks := core.Tasks()
	err := tasks.Kill(ctx, id, "", 9, true)
	if err == nil {
		_, err = tasks.Wait(ctx, id, "")
	}
	if _, derr := tasks.Delete(ctx, id, ""); !errdefs.IsNotFound(derr) {
		err = errors.Join(err, derr)
	}
	return errors.Join(ignore(err), ignore(core.Containers().Delete(ctx, id)))
}

func (c Core) record(ctx context.Context, core *client.Client) error {
	spec, err := json.Marshal(specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{Args: []string{"/busybox", "true"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}},
		Root:    &specs.Root{Path: "rootfs"},
		Linux: &specs.Linux{
			CgroupsPath: "/" + leak.Instance(c.Dir) + "/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}},
		},
	})
	if err != nil {
		return err
	}
	_, err = core.Containers().Create(ctx, container.Container{ID: id, Runtime: container.Runtime{Name: runtime},
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: spec}})
	return err
}

func (c Core) task(ctx context.Context, core *client.Client) error {
	root := filepath.Join(c.Dir, "mounts-root")
	if err := userland(root); err != nil {
		return err
	}
	defer os.RemoveAll(root)
	bind := func(source string) mount.Mount {
		return mount.Mount{Type: "format/bind", Source: source, Options: []string{"rbind"}}
	}
	tasks := core.Tasks()
	if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: id, Rootfs: []mount.Mount{bind(root), bind("{{ mount 0 }}")}}); err != nil {
		return err
	}
	if _, err := tasks.Start(ctx, id, ""); err != nil {
		return err
	}
	if e, err := tasks.Wait(ctx, id, ""); err != nil || e.Code != 0 {
		return fmt.Errorf("exit %+v: %w", e, err)
	}
	return clear(ctx, core, id)
}

func userland(root string) error {
	program, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.MkdirAll(root, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "busybox"), program, 0o755)
	}
	return err
}
