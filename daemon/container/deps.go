package container

import (
	"context"

	"github.com/containerd/typeurl/v2"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	volumetypes "github.com/docker/docker/api/types/volume"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/shimwire"
	"gantry/daemon/image"
	"gantry/daemon/network"
	"gantry/daemon/rootfs"
	"gantry/daemon/stream"
	corecontainer "gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/task"
)

// Deps are the services that containers stand on.
type Deps struct {
	Containers Containers
	Tasks      Tasks
	Keepers    Keepers          // nil: no foreign shims
	CoreEvents event.Subscriber // hints of exits, pauses and lack of memory; nil listens to nothing
	Images     Images
	Volumes    Volumes
	Networks   Networks
	Events     Publisher
	Devices    Devices

	// The following have working defaults; tests put their own in.

	OpenRoot func(mounts []mount.Mount) (Root, error)
	// UserIn looks a user up in a root as Root.LookupUser does, if it can without opening it.
	UserIn func(mounts []mount.Mount, spec string, groups []string) (user specs.User, home string, err error)
	Dial   func(ctx context.Context, socket string, h shimwire.Hello) (stream.Process, error)
	Hold   func(ctx context.Context, socket string, ports []shimwire.Port) error
}

func (d *Deps) setDefaults() {
	if d.OpenRoot == nil {
		d.OpenRoot = openRoot
	}
	if d.UserIn == nil {
		d.UserIn = rootfs.LookupUser
	}
	if d.Dial == nil {
		d.Dial = func(ctx context.Context, socket string, h shimwire.Hello) (stream.Process, error) {
			return shimwire.Dial(ctx, socket, h)
		}
	}
	if d.Hold == nil {
		d.Hold = shimwire.HoldPorts
	}
}

// Root is a container's root filesystem, open for the daemon; see daemon/rootfs.
type Root interface {
	LookupUser(spec string, groups []string) (user specs.User, home string, err error)
	// IsDir says whether path is a directory inside; found is false when there is nothing.
	IsDir(path string) (dir, found bool)
	// CopyUp fills an empty volume directory with what is at path inside.
	CopyUp(ctx context.Context, path, volume string) error
	Close() error
}

// Containers is what is needed of the core's container records.
type Containers interface {
	Create(ctx context.Context, c corecontainer.Container) (corecontainer.Container, error)
	Delete(ctx context.Context, id string) error
	List(ctx context.Context, filters ...string) ([]corecontainer.Container, error)
}

// Tasks is what is needed of the core's tasks; see task.Manager.
type Tasks interface {
	Create(ctx context.Context, o task.CreateOptions) (pid uint32, err error)
	Start(ctx context.Context, id, execID string) (pid uint32, err error)
	Delete(ctx context.Context, id, execID string) (task.Exit, error)
	Get(ctx context.Context, id, execID string) (task.State, error)
	Kill(ctx context.Context, id, execID string, signal uint32, all bool) error
	ResizePty(ctx context.Context, id, execID string, width, height uint32) error
	CloseIO(ctx context.Context, id, execID string) error
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Pids(ctx context.Context, id string) ([]task.Process, error)
	Update(ctx context.Context, id string, resources typeurl.Any, annotations map[string]string) error
	Metrics(ctx context.Context, id string) (typeurl.Any, error)
	Wait(ctx context.Context, id, execID string) (task.Exit, error)
	Checkpoint(ctx context.Context, id, path string, options typeurl.Any) error
}

// Images is what containers need of images; daemon/image.Service implements it.
type Images interface {
	Resolve(ctx context.Context, ref string, p *ocispec.Platform) (*image.Image, error)
	Prepare(ctx context.Context, img *image.Image, key string, labels map[string]string) error
	View(ctx context.Context, img *image.Image, key string) error
	Mounts(ctx context.Context, key string) ([]mount.Mount, error)
	// Parent mounts what the snapshot key was made on until release is called.
	Parent(ctx context.Context, key string) (mounts []mount.Mount, release func(), err error)
	Commit(ctx context.Context, c image.Commit) (digest.Digest, error)
	RemoveSnapshot(ctx context.Context, key string) error
	Usage(ctx context.Context, key string) (snapshot.Usage, error)
	ParentUsage(ctx context.Context, key string) (int64, error)
}

// Volumes is what containers need of volumes; daemon/volume implements it. user is a
// container id.
type Volumes interface {
	Ensure(ctx context.Context, o volumetypes.CreateOptions, user string) (*volumetypes.Volume, error)
	Mount(ctx context.Context, name, user string) (path string, err error)
	Unmount(ctx context.Context, name, user string) error
	Release(ctx context.Context, name, user string) error
	Remove(ctx context.Context, name string, force bool) error
	// Restore takes up a reference, and a mount, that a container had before the daemon started.
	Restore(ctx context.Context, name, user string, mounted bool) error
}

// Networks is what containers need of networks; daemon/network.Service implements it.
type Networks interface {
	Validate(r network.Request) error
	Allocate(ctx context.Context, r network.Request) (*network.Sandbox, error)
	Release(ctx context.Context, containerID string) error
	// Restore keeps the networks of the live containers and drops the others'.
	Restore(ctx context.Context, live map[string]bool) error
}

// Devices gives containers what their device requests ask for; daemon/device.Drivers
// implements it.
type Devices interface {
	Edit(s *specs.Spec, requests []containertypes.DeviceRequest) error
}

// Publisher takes Docker's events and never blocks.
type Publisher interface {
	Publish(typ events.Type, action events.Action, actor events.Actor)
	// PublishFleeting is for events that come all the time, and are not kept for long.
	PublishFleeting(typ events.Type, action events.Action, actor events.Actor)
}
