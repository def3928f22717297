// Package diff names the two ways between layers and mounts.
package diff

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/core/mount"
)

// CapabilityMapIDs is what a Comparer shows of itself, as a plugin, that gives layers the
// ids of the inside where mounts map them.
const CapabilityMapIDs = "map-ids"

// ApplyOptions say more about an Apply; the zero value is an ordinary one.
type ApplyOptions struct {
	// SyncFS puts the file system of the mounts to disk before the answer. A committed
	// snapshot is there in any case.
	SyncFS bool
	// Payloads are for the stream processors of their names.
	Payloads map[string]Payload
	// Progress, if set, is told now and then how much of the blob has been read. It does not
	// cross a connection.
	Progress func(read int64)
}

// Payload is a message of a type that only a processor knows.
type Payload struct {
	TypeURL string
	Value   []byte
}

// Applier unpacks a layer blob onto mounts. The descriptor it returns is the
// uncompressed tar's: its digest is the diff id. A media type that it does not know is
// NotImplemented.
type Applier interface {
	Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, o ApplyOptions) (ocispec.Descriptor, error)
}

// CompareOptions say what blob Compare makes.
type CompareOptions struct {
	MediaType string // "" is an OCI layer packed with gzip
	Reference string // the ingest's name, "" is a random one
	Labels    map[string]string
	// SourceDateEpoch, if set, takes the place of all times after it.
	SourceDateEpoch *time.Time
}

// Comparer writes the changes from lower to upper as a layer blob. The label
// "containerd.io/uncompressed" of the blob is its diff id.
type Comparer interface {
	Compare(ctx context.Context, lower, upper []mount.Mount, o CompareOptions) (ocispec.Descriptor, error)
}
