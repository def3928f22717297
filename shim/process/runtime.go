package process

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/cgroup"
	"gantry/shim/stdio"
)

// Mount is one of the mounts that make the container's root.
type Mount struct {
	Type, Source, Target string
	Options              []string
}

// CreateOptions describe a container to a runtime.
type CreateOptions struct {
	ID, Bundle string
	Spec       *specs.Spec // the bundle's
	Config     []byte      // its JSON
	// Rootfs is mounted as the container's root; empty when the bundle's is ready.
	Rootfs   []Mount
	Terminal bool
	Files    stdio.Files
	// Warn is told what was clamped or left out.
	Warn func(string)
}

// ExecOptions describe a further process to a runtime.
type ExecOptions struct {
	ID    string // unique in the container, fit for a file name
	Spec  *specs.Process
	Files stdio.Files
	Warn  func(string)
	// Subreaper: see runtime/container.ExecOptions; not every runtime knows it.
	Subreaper bool
}

// Started is a process that a runtime has made, a child of this one (perhaps
// adopted) that the reaper collects.
type Started struct {
	Pid     int
	Console *os.File // the terminal's master, the caller's; nil without one
}

// Runtime makes containers: the built-in one, or an OCI runtime's command line.
// It is called inside the reaper's Guard when it may fork.
type Runtime interface {
	// Create makes the init, which waits for Start.
	Create(ctx context.Context, o CreateOptions) (Container, Started, error)
	// Restore makes a container whose processes come from the checkpoint in the directory
	// images. They run when it returns.
	Restore(ctx context.Context, o CreateOptions, images string) (Container, Started, error)
	// Load finds a container that an earlier shim made, to delete it; ErrNotFound
	// when the runtime knows none.
	Load(id, bundle string) (Container, error)
}

// Container is one container of a Runtime. Safe for concurrent use.
type Container interface {
	Start(ctx context.Context) error
	Exec(ctx context.Context, o ExecOptions) (Started, error)
	// Kill signals the init, or with all every process. ErrNotFound when there is
	// nothing to signal.
	Kill(ctx context.Context, sig unix.Signal, all bool) error
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Checkpoint writes the processes to files. With o.Exit they end, and what is
	// left is still to be deleted.
	Checkpoint(ctx context.Context, o CheckpointOptions) error
	// Delete removes what is left of a stopped container, mounts of the root
	// included; with force it kills first.
	Delete(ctx context.Context, force bool) error
	Pids() ([]int, error)
	Update(ctx context.Context, r *specs.LinuxResources) error
	Stats() (*cgroup.Stats, error)
	// OOM tells when memory has run out, until stop; OOMKilled counts kills.
	OOM() (events <-chan struct{}, stop func(), err error)
	OOMKilled() (uint64, error)
}
