// Package image gives the core's images, blobs and snapshots Docker's meaning.
//
// An image is a record of the core: a name and a target descriptor, a manifest or
// an index. Its id is the target's digest. Names are normalised references
// ("docker.io/library/busybox:latest"); an image that has lost its last name stays
// under "moby-dangling@sha256:…", as in Docker's containerd image store, so that
// both engines read each other's records.
//
// Blobs are tied together by garbage collection labels (see labels.go): an index to
// its manifests, a manifest to its config and layers, a config to the snapshot of its
// layers. Whatever is not reachable from a record or a lease goes at the core's next
// collection, so every operation that makes something works under a lease.
//
// Snapshots of layers are named by chain id and shared by all images.
//
// Locks: records, documents, inits, the unpacker's and a transfer's are never held together, and none of them
// while a progress function runs, except that a layer may be told to be extracting.
package image

import (
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/events"
	"github.com/opencontainers/go-digest"

	"gantry/api/keylock"
	"gantry/daemon/registry"
	"gantry/libctr/core/content"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/unpack"
)

// Core is the part of the core that images live in.
type Core struct {
	Content   content.Store
	Images    image.Store
	Snapshots snapshot.Snapshotter
	Applier   diff.Applier
	Comparer  diff.Comparer
	Leases    lease.Manager
}

// Publisher takes Docker's events; it never blocks.
type Publisher interface {
	Publish(typ events.Type, action events.Action, actor events.Actor)
}

// Config says how images come and where they are kept.
type Config struct {
	// Snapshotter is the core's name of Core.Snapshots; "" is overlayfs. Constant.
	Snapshotter string
	// MaxDownloads bounds the layers that are fetched at the same time by the whole
	// daemon; 0 is 3.
	MaxDownloads int
	// MaxUploads bounds, likewise, the layers that are sent; 0 is 5.
	MaxUploads int
	// MaxUnpacks bounds the layers that are unpacked at the same time; 0 is as many as
	// there are processors, and one more. Constant.
	MaxUnpacks int
	// Rebase says that the snapshotter takes layers in any order (snapshot.CapabilityRebase).
	// Constant.
	Rebase bool
	// MaxDownloadAttempts is how often one blob is tried, 0 is 5.
	MaxDownloadAttempts int
	// RetryDelay is the pause after the first failed attempt, doubled each time; 0 is
	// 1 s. Constant.
	RetryDelay time.Duration
	// Registry says how registries are reached.
	Registry registry.Config
}

// User is a container as images see it.
type User struct {
	ContainerID string
	Running     bool
	ImageID     digest.Digest
	Ref         string        // the reference the container was created with
	Manifest    digest.Digest // of the platform it runs, "" when not known
}

// Service implements router/image.Backend and what containers need of images.
// Safe for concurrent use.
type Service struct {
	Core
	cfg    Config // but for what is live
	events Publisher
	log    *slog.Logger

	host       platforms.MatchComparer
	registries *registry.Client
	users      atomic.Pointer[func(digest.Digest) []User]
	blobs      *blobCache
	usages     sync.Map // chain id (string) → snapshot.Usage of a committed snapshot, immutable
	parents    sync.Map // snapshot's name (string) → its parent's, immutable; of layers and containers
	unpacker   *unpack.Unpacker
	inits      keylock.Locks // one init layer per name is being made
	documents  keylock.Locks // one write per small blob
	records    keylock.Locks // key "": changes of records that take several calls
	transfers  *transfers
	uploads    *slots
	attempts   atomic.Int64 // of one download; live
	held       leaseSet
	pruning    atomic.Bool
}

// New makes the service; it does no I/O.
func New(core Core, cfg Config, ev Publisher, log *slog.Logger) *Service {
	cfg = cfg.withDefaults()
	s := &Service{
		Core:       core,
		cfg:        cfg,
		events:     ev,
		log:        log,
		host:       platforms.Default(),
		registries: registry.New(cfg.Registry),
		blobs:      newBlobCache(512, 256<<10),
	}
	s.attempts.Store(int64(cfg.MaxDownloadAttempts))
	s.unpacker = unpack.New(unpack.Config{
		Content: core.Content, Snapshotter: core.Snapshots, Name: cfg.Snapshotter, Applier: core.Applier,
		Log: log, Parallel: cfg.MaxUnpacks, Rebase: cfg.Rebase,
	})
	s.transfers = newTransfers(s, cfg.MaxDownloads)
	s.uploads = newSlots(cfg.MaxUploads)
	return s
}

// Reconfigure makes pulls and pushes go by cfg from now on, but for its constant
// fields; what is under way goes on.
func (s *Service) Reconfigure(cfg Config) {
	cfg = cfg.withDefaults()
	s.registries.Reconfigure(cfg.Registry)
	s.transfers.slots.resize(cfg.MaxDownloads)
	s.uploads.resize(cfg.MaxUploads)
	s.attempts.Store(int64(cfg.MaxDownloadAttempts))
}

// Registries is how images reach registries.
func (s *Service) Registries() *registry.Client { return s.registries }

func (c Config) withDefaults() Config {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.MaxDownloads <= 0 {
		c.MaxDownloads = 3
	}
	if c.MaxUploads <= 0 {
		c.MaxUploads = 5
	}
	if c.MaxUnpacks <= 0 {
		c.MaxUnpacks = runtime.GOMAXPROCS(0) + 1
	}
	if c.MaxDownloadAttempts <= 0 {
		c.MaxDownloadAttempts = 5
	}
	if c.RetryDelay <= 0 {
		c.RetryDelay = time.Second
	}
	return c
}

// SetUsers says how to find the containers that use an image; the empty id asks for
// all containers. It may be called once, before the first request.
func (s *Service) SetUsers(f func(imageID digest.Digest) []User) { s.users.Store(&f) }

func (s *Service) usersOf(id digest.Digest) []User {
	if f := s.users.Load(); f != nil {
		return (*f)(id)
	}
	return nil
}
