package container

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Create makes the container's init, which then waits to be started. Its
// command has already been looked up inside the container's root.
func Create(ctx context.Context, o CreateOptions) (*Container, error) {
	return nil, errdefs.ErrNotImplemented
}

// Load finds a container that this or another process created;
// errdefs.ErrNotFound when there is none.
func Load(root, id string) (*Container, error) { return nil, errdefs.ErrNotFound }

// List loads all containers of a root; those it can't load are left out.
func List(root string) ([]*Container, error) { return nil, nil }

// Start lets the init run its command. An error of the final execve is a
// *CommandError with Late set.
func (c *Container) Start(ctx context.Context) error { return errdefs.ErrNotImplemented }

// Exec runs a further process in the container's namespaces and cgroup.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*Process, error) {
	return nil, errdefs.ErrNotImplemented
}

// Kill sends a signal to the init, or with all to every process of the
// container. errdefs.ErrNotFound when there is nothing to signal any more.
func (c *Container) Kill(ctx context.Context, sig unix.Signal, all bool) error {
	return errdefs.ErrNotImplemented
}

// Pause freezes all processes of the container.
func (c *Container) Pause(ctx context.Context) error { return errdefs.ErrNotImplemented }

// Resume thaws a paused container.
func (c *Container) Resume(ctx context.Context) error { return errdefs.ErrNotImplemented }

// Delete removes what is left of a stopped container; with force it kills first.
func (c *Container) Delete(ctx context.Context, force bool) error { return errdefs.ErrNotImplemented }

// State is the container's state as the OCI runtime specification has it.
// Status is also "paused", as runc has it.
func (c *Container) State() (specs.State, error) { return specs.State{}, errdefs.ErrNotImplemented }

// Pids are the processes of the container's cgroup, in our pid namespace.
func (c *Container) Pids() ([]int, error) { return nil, errdefs.ErrNotImplemented }

// Update changes the container's resource limits; what is nil stays.
func (c *Container) Update(r *specs.LinuxResources) error { return errdefs.ErrNotImplemented }
