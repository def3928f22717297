package pod

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"gantry/api/errdefs"
	"gantry/libctr/client"
	"gantry/libctr/core/container"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/task"
)

// ofGroup is the annotation by which containers share a shim without a sandbox.
const ofGroup = "io.kubernetes.cri.sandbox-id"

// Members puts two containers into a sandbox and two into a group, and takes all away.
// What an earlier call has left goes first.
func (c Core) Members() error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		if err := noMembers(ctx, core); err != nil {
			return fmt.Errorf("clear: %w", err)
		}
		if err := userland(filepath.Join(c.Dir, "pod-root")); err != nil {
			return err
		}
		for _, id := range []string{"grouped-1", "grouped-2"} {
			if _, err := c.member(ctx, core, container.Container{ID: id}, map[string]string{ofGroup: "group"}); err != nil {
				return fmt.Errorf("container %s: %w", id, err)
			}
		}
		s, err := core.Sandboxes().Create(ctx, sandbox.Sandbox{ID: "joined", Sandboxer: "shim", Runtime: sandbox.Runtime{Name: runtime}})
		if err != nil {
			return err
		}
		controller := core.SandboxController("shim")
		if err := controller.Create(ctx, s, sandbox.CreateOptions{}); err != nil {
			return err
		}
		if _, err := controller.Start(ctx, "joined"); err != nil {
			return err
		}
		for _, id := range []string{"joined-1", "joined-2"} {
			if _, err := c.member(ctx, core, container.Container{ID: id, SandboxID: "joined"}, nil); err != nil {
				return fmt.Errorf("container %s: %w", id, err)
			}
		}
		return noMembers(ctx, core)
	})
}

// NoMembers takes away what Members has left.
func (c Core) NoMembers() error { return c.with(noMembers) }

func noMembers(ctx context.Context, core *client.Client) error {
	var errs []error
	for _, id := range []string{"grouped-1", "grouped-2", "joined-1", "joined-2"} {
		errs = append(errs, clear(ctx, core, id))
	}
	return errors.Join(append(errs,
		ignore(core.SandboxController("shim").Shutdown(ctx, "joined"), core.Sandboxes().Delete(ctx, "joined")))...)
}

const revived = "revived"

// Labelled makes the record of a container that the core shall keep running.
func (c Core) Labelled() error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		if err := userland(filepath.Join(c.Dir, "pod-root")); err != nil {
			return err
		}
		return c.sleeper(ctx, core, container.Container{ID: revived, Labels: map[string]string{"containerd.io/restart.status": "running"}}, nil)
	})
}

// Look says whether there is a container that Labelled has made.
func (c Core) Look() (there bool, err error) {
	err = c.with(func(ctx context.Context, core *client.Client) error {
		_, err := core.Containers().Get(ctx, revived)
		there = err == nil
		return ignore(err)
	})
	return there, err
}

// Revived waits until the core has started that container, and takes it away.
func (c Core) Revived() error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		for {
			st, err := core.Tasks().Get(ctx, revived, "")
			if err == nil && st.Status == task.StatusRunning {
				break
			}
			if err != nil && !errdefs.IsNotFound(err) {
				return err
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return errors.New("the core does not start the container")
			}
		}
		no := container.Container{ID: revived, Labels: map[string]string{}}
		if _, err := core.Containers().Update(ctx, no, "labels"); err != nil {
			return err
		}
		return clear(ctx, core, revived)
	})
}

// Cycle takes a container through its life.
func (c Core) Cycle(id string) error {
	return c.with(func(ctx context.Context, core *client.Client) error {
		if err := userland(filepath.Join(c.Dir, "pod-root")); err != nil {
			return err
		}
		if _, err := c.member(ctx, core, container.Container{ID: id}, nil); err != nil {
			return err
		}
		if err := execute(ctx, core, id); err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		return clear(ctx, core, id)
	})
}
