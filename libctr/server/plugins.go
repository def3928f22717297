package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	contentstore "gantry/libctr/content"
	"gantry/libctr/core/content"
	corediff "gantry/libctr/core/diff"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/diff"
	"gantry/libctr/event"
	"gantry/libctr/metadata"
	"gantry/libctr/snapshot/idmap"
	"gantry/libctr/snapshot/native"
	"gantry/libctr/snapshot/overlay"
)

// Plugin types, containerd's.
const (
	typeContent     plugin.Type = "io.containerd.content.v1"
	typeSnapshotter plugin.Type = "io.containerd.snapshotter.v1"
	typeMetadata    plugin.Type = "io.containerd.metadata.v1"
	typeEvent       plugin.Type = "io.containerd.event.v1"
	typeGC          plugin.Type = "io.containerd.gc.v1"
	typeLease       plugin.Type = "io.containerd.lease.v1"
	typeDiffer      plugin.Type = "io.containerd.differ.v1"
	typeRuntime     plugin.Type = "io.containerd.runtime.v2"
	typeShim        plugin.Type = "io.containerd.shim.v1"
	typeService     plugin.Type = "io.containerd.service.v1"
	typeGRPC        plugin.Type = "io.containerd.grpc.v1"
)

// Essential lists the plugins without which no container runs, for an embedder's
// RequiredPlugins.
func Essential() []string {
	return []string{
		"io.containerd.grpc.v1.containers", "io.containerd.grpc.v1.content", "io.containerd.grpc.v1.diff",
		"io.containerd.grpc.v1.events", "io.containerd.grpc.v1.healthcheck", "io.containerd.grpc.v1.images",
		"io.containerd.grpc.v1.introspection", "io.containerd.grpc.v1.leases", "io.containerd.grpc.v1.namespaces",
		"io.containerd.grpc.v1.snapshots", "io.containerd.grpc.v1.tasks", "io.containerd.grpc.v1.version",
		"io.containerd.gc.v1.scheduler", "io.containerd.snapshotter.v1.overlayfs",
	}
}

// builder makes the registrations; what they share is here.
type builder struct {
	cfg   Config
	log   *slog.Logger
	graph *graph
}

// registrations is the list of all plugins there are.
func (b *builder) registrations() []*plugin.Registration {
	list := []*plugin.Registration{
		{Type: typeEvent, ID: "exchange", InitFn: b.initExchange},
		{Type: typeContent, ID: "content", InitFn: b.initContent},
		{Type: typeSnapshotter, ID: "overlayfs", Config: &overlayConfig{}, InitFn: b.initOverlay},
		{Type: typeSnapshotter, ID: "native", Config: &rootConfig{}, InitFn: b.initNative},
		{Type: typeMetadata, ID: "bolt", Config: &metadataConfig{SharingPolicy: "shared"}, InitFn: b.initMetadata,
			Requires: []plugin.Type{typeContent, typeSnapshotter, typeEvent}},
		{Type: typeGC, ID: "scheduler", Config: defaultGCConfig(), Requires: []plugin.Type{typeMetadata}, InitFn: b.initGC},
		{Type: typeLease, ID: "manager", Requires: []plugin.Type{typeMetadata}, InitFn: b.initLeases},
		{Type: typeDiffer, ID: "walking", Requires: []plugin.Type{typeMetadata}, InitFn: b.initDiffer},
		{Type: typeShim, ID: "manager", Config: &shimConfig{}, InitFn: b.initShims, ConfigMigration: migrateShims},
		{Type: typeRuntime, ID: "task", Config: defaultRuntimeConfig(), InitFn: b.initRuntime,
			Requires: []plugin.Type{typeMetadata, typeEvent, typeShim, typeMountManager}},
	}
	list = append(list, b.mounts()...)
	list = append(list, b.sandboxes()...)
	list = append(list, b.transfers()...)
	list = append(list, b.restarter())
	list = append(list, b.proxies()...)
	list = append(list, b.services()...)
	return append(list, b.endpoints()...)
}

func (b *builder) initExchange(*plugin.InitContext) (any, error) { return event.NewExchange(), nil }

func (b *builder) initContent(ic *plugin.InitContext) (any, error) {
	root := ic.Properties[propRoot]
	ic.Meta.Exports["root"] = root
	ic.Meta.Platforms = []ocispec.Platform{platforms.DefaultSpec()}
	return contentstore.New(root)
}

// rootConfig is of plugins that may be put elsewhere.
type rootConfig struct {
	RootPath string `toml:"root_path"`
}

func (c rootConfig) or(def string) string {
	if c.RootPath != "" {
		return c.RootPath
	}
	return def
}

type overlayConfig struct {
	rootConfig
	MountOptions  []string `toml:"mount_options"`
	UpperdirLabel bool     `toml:"upperdir_label"`
	SyncRemove    bool     `toml:"sync_remove"` // taken and ignored: the collector removes
	SlowChown     bool     `toml:"slow_chown"`  // refused: ids are mapped where layers are mounted, never changed on the disk
}

// overlayCapabilities are what clients ask for: whether layers' ids are mapped where
// they are mounted, and only there, and whether layers can be unpacked side by side.
func overlayCapabilities() []string {
	out := []string{"only-remap-ids", snapshot.CapabilityRebase, snapshot.CapabilityDirectories}
	if idmap.Supported() {
		out = append(out, "remap-ids")
	}
	return out
}

func (b *builder) initOverlay(ic *plugin.InitContext) (any, error) {
	cfg := ic.Config.(*overlayConfig)
	if cfg.SlowChown {
		return nil, errdefs.NotImplemented("slow_chown is not supported: ids of layers are mapped, not changed")
	}
	root := cfg.or(ic.Properties[propRoot])
	ic.Meta.Capabilities = overlayCapabilities()
	ic.Meta.Exports["root"] = root
	ic.Meta.Platforms = []ocispec.Platform{platforms.DefaultSpec()}
	s, err := overlay.New(root, overlay.Options{MountOptions: cfg.MountOptions, UpperdirLabel: cfg.UpperdirLabel, Log: b.log})
	if err != nil {
		return nil, err
	}
	b.graph.onClose("snapshotter overlayfs", func(context.Context) error { return s.Close() })
	return s, nil
}

func (b *builder) initNative(ic *plugin.InitContext) (any, error) {
	root := ic.Config.(*rootConfig).or(ic.Properties[propRoot])
	ic.Meta.Exports["root"] = root
	ic.Meta.Platforms = []ocispec.Platform{platforms.DefaultSpec()}
	s, err := native.New(root, native.Options{Log: b.log})
	if err != nil {
		return nil, err
	}
	b.graph.onClose("snapshotter native", func(context.Context) error { return s.Close() })
	return s, nil
}

const (
	policyShared   = "shared"
	policyIsolated = "isolated"
)

type metadataConfig struct {
	// SharingPolicy is "shared": a blob that a namespace has, others get by its digest; or
	// "isolated": they have to write it all.
	SharingPolicy string `toml:"content_sharing_policy"`
	NoSync        bool   `toml:"no_sync"` // taken and ignored: what is acknowledged is on the disk
}

func (b *builder) initMetadata(ic *plugin.InitContext) (any, error) {
	policy := cmp.Or(ic.Config.(*metadataConfig).SharingPolicy, policyShared)
	if policy != policyShared && policy != policyIsolated {
		return nil, errdefs.InvalidArgument("content_sharing_policy %q is neither %q nor %q", policy, policyShared, policyIsolated)
	}
	blobs, err := single[content.Store](ic, typeContent)
	if err != nil {
		return nil, err
	}
	exchange, err := lookup[*event.Exchange](ic, typeEvent, "exchange")
	if err != nil {
		return nil, err
	}
	dir, state := ic.Properties[propRoot], ic.Properties[propState]
	ic.Meta.Exports["path"] = filepath.Join(dir, "meta.db")
	ic.Meta.Exports["policy"] = policy
	for _, d := range []string{dir, state} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, err
		}
	}
	db, err := metadata.Open(filepath.Join(dir, "meta.db"), metadata.Options{
		Boot: filepath.Join(state, "boot.db"), Content: blobs, Isolated: policy == policyIsolated, Snapshotters: snapshotters(ic), Events: exchange, Log: b.log})
	if err != nil {
		return nil, err
	}
	b.graph.onClose("metadata", func(context.Context) error { return db.Close() })
	return db, nil
}

// snapshotters are those that came up, by name.
func snapshotters(ic *plugin.InitContext) map[string]snapshot.Snapshotter {
	out := map[string]snapshot.Snapshotter{}
	for _, p := range ic.GetAll() {
		if p.Registration.Type != typeSnapshotter {
			continue
		}
		if v, err := p.Instance(); err == nil {
			if s, ok := v.(snapshot.Snapshotter); ok {
				out[p.Registration.ID] = s
			}
		}
	}
	return out
}

// single returns the only plugin of a type that came up.
func single[T any](ic *plugin.InitContext, typ plugin.Type) (T, error) {
	var none T
	v, err := ic.GetSingle(typ)
	if err != nil {
		return none, err
	}
	t, ok := v.(T)
	if !ok {
		return none, fmt.Errorf("plugin of %s is a %T", typ, v)
	}
	return t, nil
}

func (b *builder) initLeases(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	return db.Leases(), nil
}

func (b *builder) initDiffer(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	ic.Meta.Platforms = []ocispec.Platform{platforms.DefaultSpec()}
	ic.Meta.Capabilities = []string{corediff.CapabilityMapIDs}
	return diff.New(db.Content(), b.cfg.processors()...), nil
}
