package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/internal/testutil/leak"
	"gantry/libctr/client"
	"gantry/libctr/core/container"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/task"
)

// Running is a pod with containers that sleep.
type Running struct {
	Core
	PID     uint32            // of the sandbox
	Members map[string]uint32 // the inits of its containers, by id
}

// Begin makes a pod of containers of those ids.
func (c Core) Begin(ids ...string) (*Running, error) {
	r := &Running{Core: c, Members: map[string]uint32{}}
	return r, c.with(func(ctx context.Context, core *client.Client) error {
		if err := userland(filepath.Join(c.Dir, "pod-root")); err != nil {
			return err
		}
		controller := core.SandboxController("shim")
		s, err := core.Sandboxes().Create(ctx, sandbox.Sandbox{ID: "pod", Sandboxer: "shim", Runtime: sandbox.Runtime{Name: runtime}})
		if err != nil {
			return err
		}
		if err := controller.Create(ctx, s, sandbox.CreateOptions{}); err != nil {
			return err
		}
		i, err := controller.Start(ctx, "pod")
		if err != nil {
			return err
		}
		r.PID = i.PID
		for _, id := range ids {
			if r.Members[id], err = c.member(ctx, core, container.Container{ID: id, SandboxID: "pod"}, nil); err != nil {
				return fmt.Errorf("container %s: %w", id, err)
			}
		}
		return nil
	})
}

// member starts a container that sleeps.
func (c Core) member(ctx context.Context, core *client.Client, rec container.Container, annotations map[string]string) (uint32, error) {
	if err := c.sleeper(ctx, core, rec, annotations); err != nil {
		return 0, err
	}
	if _, err := core.Tasks().Create(ctx, task.CreateOptions{ContainerID: rec.ID}); err != nil {
		return 0, err
	}
	return core.Tasks().Start(ctx, rec.ID, "")
}

// sleeper makes the record of one.
func (c Core) sleeper(ctx context.Context, core *client.Client, rec container.Container, annotations map[string]string) error {
	spec, err := json.Marshal(specs.Spec{
		Version:     "1.0.2",
		Process:     &specs.Process{Args: []string{"/busybox", "sleep", "1000"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}},
		Root:        &specs.Root{Path: filepath.Join(c.Dir, "pod-root")},
		Annotations: annotations,
		Linux: &specs.Linux{
			CgroupsPath: "/" + leak.Instance(c.Dir) + "/" + rec.ID,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}},
		},
	})
	if err != nil {
		return err
	}
	rec.Runtime.Name = runtime
	rec.Spec = &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: spec}
	_, err = core.Containers().Create(ctx, rec)
	return err
}

// Check says what of the pod is not as it was, and executes something in each container.
func (r *Running) Check() error {
	return r.with(func(ctx context.Context, core *client.Client) error {
		st, err := core.SandboxController("shim").Status(ctx, "pod", false)
		if err != nil || st.State != sandbox.Ready || st.PID != r.PID {
			return fmt.Errorf("sandbox: %+v, %w", st, err)
		}
		for id, pid := range r.Members {
			st, err := core.Tasks().Get(ctx, id, "")
			if err != nil || st.Status != task.StatusRunning || st.PID != pid {
				return fmt.Errorf("container %s: %+v, %w", id, st, err)
			}
			if err := execute(ctx, core, id); err != nil {
				return fmt.Errorf("exec in %s: %w", id, err)
			}
		}
		return nil
	})
}

func execute(ctx context.Context, core *client.Client, id string) error {
	spec, err := json.Marshal(specs.Process{Args: []string{"/busybox", "true"}, Cwd: "/", Capabilities: &specs.LinuxCapabilities{}})
	if err != nil {
		return err
	}
	tasks := core.Tasks()
	err = tasks.Exec(ctx, task.ExecOptions{ContainerID: id, ExecID: "probe",
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: spec}})
	if err != nil {
		return err
	}
	if _, err := tasks.Start(ctx, id, "probe"); err != nil {
		return err
	}
	if e, err := tasks.Wait(ctx, id, "probe"); err != nil || e.Code != 0 {
		return fmt.Errorf("exit %+v: %w", e, err)
	}
	_, err = tasks.Delete(ctx, id, "probe")
	return err
}

// End stops the pod and takes it away, with all records.
func (r *Running) End() error {
	defer os.RemoveAll(filepath.Join(r.Dir, "pod-root"))
	return r.with(func(ctx context.Context, core *client.Client) error {
		controller := core.SandboxController("shim")
		errs := []error{controller.Stop(ctx, "pod", 5*time.Second)}
		for id := range r.Members {
			e, err := core.Tasks().Delete(ctx, id, "")
			if err == nil && e.Code != 137 {
				err = fmt.Errorf("container %s: exit %+v", id, e)
			}
			errs = append(errs, err, core.Containers().Delete(ctx, id))
		}
		errs = append(errs, controller.Shutdown(ctx, "pod"), core.Sandboxes().Delete(ctx, "pod"), core.Namespaces().Delete(ctx, namespace))
		return errors.Join(errs...)
	})
}

// Kill ends the processes of a pod that a failed test leaves.
func (r *Running) Kill() {
	for _, pid := range r.Members {
		_ = syscall.Kill(int(pid), syscall.SIGKILL)
	}
	if r.PID > 1 {
		_ = syscall.Kill(int(r.PID), syscall.SIGKILL)
	}
}
