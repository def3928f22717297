// Package snapshot names filesystem states and the snapshotter that keeps them.
// A snapshot is active (prepared, writable), a view (read-only) or committed
// (immutable, may be a parent). Keys and names share one space per namespace.
package snapshot

import (
	"context"
	"time"

	"gantry/libctr/core/mount"
)

// Kind says what may be done with a snapshot.
type Kind uint8

const (
	KindUnknown Kind = iota
	KindView
	KindActive
	KindCommitted
)

// Info describes a snapshot.
type Info struct {
	Kind      Kind
	Name      string // key or name
	Parent    string // "" for a base
	Labels    map[string]string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Usage is what a snapshot adds on disk, its parents not counted.
type Usage struct {
	Inodes int64
	Size   int64 // bytes
}

// LabelRef on Prepare names the snapshot that the caller means to commit to: the
// answer is AlreadyExists when it is there.
const LabelRef = "containerd.io/snapshot.ref"

// Labels that who unpacks gives an active snapshot: its layer's diff id, and the chain id
// of what it will be put on. A name with inherited labels' prefix reaches the backend.
const (
	LabelDiffID      = "containerd.io/snapshot/diff-id"
	LabelParentChain = "containerd.io/snapshot/parent-chain-id"
	PrefixInherited  = "containerd.io/snapshot/"
)

// CapabilityRebase is what a snapshotter that is a Rebaser shows of itself, as a plugin.
const CapabilityRebase = "rebase"

// CapabilityDirectories is shown by a Rebaser that, with its core's differ, leaves
// directories as they are below of which a layer has only entries. containerd makes them
// 0755 of root when layers are unpacked side by side.
const CapabilityDirectories = "rebase-directories"

// Labels of an active snapshot that say which ids of the host those inside are:
// "INSIDE:HOST:SIZE", several with commas. Its mounts carry them on as options "uidmap="
// and "gidmap=": whoever mounts a bind maps its ids, of an overlay those of its lower
// layers, which all containers share.
const (
	LabelUIDMapping = "containerd.io/snapshot/uidmapping"
	LabelGIDMapping = "containerd.io/snapshot/gidmapping"
)

// Snapshotter keeps snapshots. Safe for concurrent use.
type Snapshotter interface {
	Stat(ctx context.Context, key string) (Info, error)
	// Update replaces the labels named by fieldpaths ("labels", "labels.KEY"), all when none are given.
	Update(ctx context.Context, info Info, fieldpaths ...string) (Info, error)
	Usage(ctx context.Context, key string) (Usage, error)
	// Mounts of an active snapshot or view.
	Mounts(ctx context.Context, key string) ([]mount.Mount, error)
	Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error)
	View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error)
	// Commit turns the active snapshot key into the committed name; key is gone then.
	Commit(ctx context.Context, name, key string, labels map[string]string) error
	// Remove fails with FailedPrecondition while the snapshot has children.
	Remove(ctx context.Context, key string) error
	Walk(ctx context.Context, fn func(Info) error, filters ...string) error
	// Cleanup frees what removed snapshots left on disk.
	Cleanup(ctx context.Context) error
	Close() error
}

// Rebaser is a Snapshotter that puts an active snapshot without a parent onto one when
// it is committed, so that layers can be unpacked before what is below them. Whoever
// fills it must mark in its tree what it deletes below, as overlayfs does.
type Rebaser interface {
	// CommitOnto is Commit, onto the committed snapshot parent; InvalidArgument when the
	// snapshot has another parent already, NotImplemented where it can't be done.
	CommitOnto(ctx context.Context, name, key, parent string, labels map[string]string) error
}

// LabelUpperdir says where the changes of a snapshot of overlayfs are, on the host.
const LabelUpperdir = "containerd.io/snapshot/overlay.upperdir"

// Teller is a Snapshotter that shows labels which nobody has given it, if it is told to.
type Teller interface{ TellsLabels() bool }
