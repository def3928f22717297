// Package task names what runs: the process tree of a container, and the execs in it.
package task

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"

	"gantry/libctr/core/mount"
)

// Status is the shim's machine.
type Status uint8

const (
	StatusUnknown Status = iota
	StatusCreated
	StatusRunning
	StatusStopped
	StatusPaused
	StatusPausing
)

// IO names the ends of a process's streams: paths of fifos, or URIs
// (file://, binary://, gantry-log:// for our shim, see api/shimwire). "" is /dev/null.
type IO struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// CreateOptions describe a new task of an existing container.
type CreateOptions struct {
	ContainerID string
	Rootfs      []mount.Mount // mounted by the shim; empty when the bundle's root is ready
	IO          IO
	Checkpoint  string      // directory, "" is none
	Options     typeurl.Any // runtime options
	ShimPath    string      // absolute path of the shim binary, "" is found by the runtime's name
	// Endpoint is where a shim runs that the task joins, such as ttrpc+unix:///run/x, and
	// the version of the task API there, 2 or 3; "" is a shim of its own, or that of the
	// container's sandbox.
	Endpoint        string
	EndpointVersion uint32
}

// State is what a shim answers about a process.
type State struct {
	ContainerID string
	ExecID      string // "" is the init
	PID         uint32
	Status      Status
	IO          IO
	ExitStatus  uint32
	ExitedAt    time.Time
}

// Exit tells how a process ended; Code is 128+n for signal n.
type Exit struct {
	PID  uint32
	Code uint32
	At   time.Time
}

// ExecOptions describe a further process in a task.
type ExecOptions struct {
	ContainerID string
	ExecID      string
	IO          IO
	Spec        typeurl.Any // specs.Process, JSON
}

// Process is one process as Pids lists it.
type Process struct {
	PID  uint32
	Info typeurl.Any
}

// Manager runs tasks. execID "" means the init throughout. Safe for concurrent use.
type Manager interface {
	Create(ctx context.Context, o CreateOptions) (pid uint32, err error)
	Start(ctx context.Context, id, execID string) (pid uint32, err error)
	// Delete forgets a stopped process; deleting the init ends the shim.
	Delete(ctx context.Context, id, execID string) (Exit, error)
	Get(ctx context.Context, id, execID string) (State, error)
	List(ctx context.Context) ([]State, error)
	Kill(ctx context.Context, id, execID string, signal uint32, all bool) error
	Exec(ctx context.Context, o ExecOptions) error
	ResizePty(ctx context.Context, id, execID string, width, height uint32) error
	CloseIO(ctx context.Context, id, execID string) error
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Pids(ctx context.Context, id string) ([]Process, error)
	Update(ctx context.Context, id string, resources typeurl.Any, annotations map[string]string) error
	// Metrics answers io.containerd.cgroups.v1.Metrics or v2.
	Metrics(ctx context.Context, id string) (typeurl.Any, error)
	Checkpoint(ctx context.Context, id, path string, options typeurl.Any) error
	// Wait blocks until the process has ended.
	Wait(ctx context.Context, id, execID string) (Exit, error)
}

// What a core's task plugin shows of itself that does more than containerd's.
const (
	// CapabilityShim: it has our shim beside it, and runs it by its name.
	CapabilityShim = "gantry-shim"
	// CapabilityExits: it tells how tasks have ended whose shims died, and ends those whose
	// shims are stuck.
	CapabilityExits = "keep-exits"
)
