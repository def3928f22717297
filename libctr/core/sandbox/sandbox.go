// Package sandbox names groups of containers that share one shim and what it sets up
// for them: the records of sandboxes, and the controllers that run them.
package sandbox

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/core/mount"
)

// Sandbox is a record; ID is unique in its namespace.
type Sandbox struct {
	ID         string
	Labels     map[string]string
	Runtime    Runtime
	Spec       typeurl.Any // what the sandbox itself is like, usually a runtime-spec; nil is none
	Sandboxer  string      // name of the controller that runs it
	Extensions map[string]typeurl.Any
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Runtime names the shim and its options.
type Runtime struct {
	Name    string
	Options typeurl.Any
}

// Store keeps sandboxes. Safe for concurrent use.
type Store interface {
	Get(ctx context.Context, id string) (Sandbox, error)
	List(ctx context.Context, filters ...string) ([]Sandbox, error)
	Create(ctx context.Context, s Sandbox) (Sandbox, error)
	// Update takes the fields "labels", "labels.KEY", "extensions", "extensions.KEY",
	// "runtime" and "spec" from s, all when none are named; the runtime's name must then
	// be the one there is.
	Update(ctx context.Context, s Sandbox, fieldpaths ...string) (Sandbox, error)
	Delete(ctx context.Context, id string) error
}

// CreateOptions are what a controller is told besides the record.
type CreateOptions struct {
	Rootfs      []mount.Mount // of the sandbox's own process, if it is to have one
	Options     typeurl.Any   // passed on to the shim as they are
	NetNSPath   string        // the network namespace of the sandbox
	Annotations map[string]string
}

// Instance is a sandbox that has been started.
type Instance struct {
	ID        string
	PID       uint32 // of what keeps it
	CreatedAt time.Time
	// Address and Version are where containers of the sandbox are created, by the task
	// API: "ttrpc+unix:///PATH" and 3.
	Address string
	Version uint32
	Labels  map[string]string
	Spec    typeurl.Any
}

// Status is what a sandbox does now. One that is not there has an empty State and the
// present time as ExitedAt.
type Status struct {
	ID        string
	PID       uint32
	State     string            // a shim's own word; ours says Ready or NotReady
	Info      map[string]string // only when asked for in detail
	CreatedAt time.Time
	ExitedAt  time.Time
	Extra     typeurl.Any
	Address   string // as in Instance
	Version   uint32
}

// States of sandboxes as Kubernetes calls them.
const (
	Ready    = "SANDBOX_READY"
	NotReady = "SANDBOX_NOTREADY"
)

// Exit tells how a sandbox ended.
type Exit struct {
	Code uint32
	At   time.Time
}

// Controller runs sandboxes. A sandbox is created, started, stopped (after which Wait
// answers) and shut down. Safe for concurrent use.
type Controller interface {
	Create(ctx context.Context, s Sandbox, o CreateOptions) error
	Start(ctx context.Context, id string) (Instance, error)
	// Platform is what containers of the sandbox run on.
	Platform(ctx context.Context, id string) (ocispec.Platform, error)
	// Stop ends what runs in the sandbox within timeout, 0 is the shim's own. Stopping
	// what is not there is no error.
	Stop(ctx context.Context, id string, timeout time.Duration) error
	// Wait blocks until the sandbox has been stopped or its shim has died.
	Wait(ctx context.Context, id string) (Exit, error)
	Status(ctx context.Context, id string, verbose bool) (Status, error)
	// Shutdown ends the sandbox with everything in it.
	Shutdown(ctx context.Context, id string) error
	Metrics(ctx context.Context, id string) (*types.Metric, error)
	// Update tells a running sandbox which fields of its record have changed; NotImplemented
	// is to be borne.
	Update(ctx context.Context, id string, s Sandbox, fieldpaths ...string) error
}
