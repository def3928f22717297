// Package container names the records of containers; what runs is a task.
package container

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"
)

// Container is a record; ID is unique in its namespace.
type Container struct {
	ID          string
	Labels      map[string]string
	Image       string
	Runtime     Runtime
	Spec        typeurl.Any // runtime-spec, JSON
	SnapshotKey string
	Snapshotter string
	SandboxID   string
	Extensions  map[string]typeurl.Any
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// LabelOfBoot, set to "true" when a container is created, says that the record is only
// worth something while its task runs: it need not outlive the boot, and is then kept
// without syncs.
const LabelOfBoot = "gantry/of-boot"

// Runtime names the shim ("io.containerd.gantry.v2") and its options.
type Runtime struct {
	Name    string
	Options typeurl.Any
}

// Store keeps containers. Safe for concurrent use.
type Store interface {
	Get(ctx context.Context, id string) (Container, error)
	List(ctx context.Context, filters ...string) ([]Container, error)
	Create(ctx context.Context, c Container) (Container, error)
	Update(ctx context.Context, c Container, fieldpaths ...string) (Container, error)
	Delete(ctx context.Context, id string) error
}
