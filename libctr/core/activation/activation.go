// Package activation names mounts that the core makes itself, on behalf of whoever wants
// to use what lies on them: those whose types no kernel knows, or that need a device, a
// directory or a file system first. What is left for the system to mount may be mounted
// anywhere.
//
// The type of a mount may have transforms before it, "format/mkdir/overlay", which are
// applied from the left:
//
//	format  {{ mount N }}, {{ source N }}, {{ target N }} and {{ overlay FROM TO }} in source,
//	        target and options stand for earlier mounts of the same activation
//	mkdir   options X-containerd.mkdir.path=PATH[:MODE[:UID:GID]] make directories
//	mkfs    options X-containerd.mkfs.{size,fs,uuid}=… make the source, a file with a file
//	        system, when it is not there
package activation

import (
	"context"
	"strings"
	"time"

	"gantry/libctr/core/mount"
)

// Mount is one that the core has made.
type Mount struct {
	mount.Mount
	MountedAt  time.Time
	MountPoint string            // where what it gives is; of a loop device a link to it
	Data       map[string]string // of use to later mounts
}

// Activation is a set of mounts that was made together; Name is unique in its namespace.
type Activation struct {
	Name   string
	Active []Mount       // made by the core, in order
	System []mount.Mount // what is left to mount
	Labels map[string]string
}

// Options of a new activation.
type Options struct {
	Labels map[string]string
	// Temporary has all mounts made; System is then one bind of the result.
	Temporary bool
	// AllowTypes and AllowTransforms are what the caller can do itself. They are left to
	// it, unless later mounts need them.
	AllowTypes, AllowTransforms []string
}

// Manager makes and keeps activations. One that no lease holds, and whose labels
// containerd.io/gc.bref.{container,content,image,snapshot.NAME} name nothing that is
// there, goes with the next collection. Safe for concurrent use.
type Manager interface {
	// Activate fails with NotImplemented when the caller can mount all itself, and
	// with AlreadyExists while there is one of that name.
	Activate(ctx context.Context, name string, mounts []mount.Mount, o Options) (Activation, error)
	Deactivate(ctx context.Context, name string) error
	Info(ctx context.Context, name string) (Activation, error)
	// Update replaces the labels named by fieldpaths ("labels", "labels.KEY"), all when
	// none are given.
	Update(ctx context.Context, a Activation, fieldpaths ...string) (Activation, error)
	List(ctx context.Context, filters ...string) ([]Activation, error)
}

// TypeLoop is a mount whose source is a file and whose mount point a block device with
// its content.
const TypeLoop = "loop"

// Transforms are those that there are.
var Transforms = []string{"format", "mkdir", "mkfs"}

// Needed says whether a system cannot mount all of these by itself.
func Needed(mounts []mount.Mount) bool {
	for _, m := range mounts {
		if m.Type == TypeLoop || strings.Contains(m.Type, "/") {
			return true
		}
	}
	return false
}
