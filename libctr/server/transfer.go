package server

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/containerd/platforms"
	"github.com/containerd/plugin"

	"gantry/api/errdefs"
	"gantry/libctr/core/diff"
	"gantry/libctr/core/snapshot"
	corestream "gantry/libctr/core/stream"
	coretransfer "gantry/libctr/core/transfer"
	"gantry/libctr/core/unpack"
	"gantry/libctr/event"
	"gantry/libctr/metadata"
	"gantry/libctr/registry"
	"gantry/libctr/services/notify"
	"gantry/libctr/services/streaming"
	transferservice "gantry/libctr/services/transfer"
	"gantry/libctr/stream"
	"gantry/libctr/transfer"
)

const (
	typeStreaming plugin.Type = "io.containerd.streaming.v1"
	typeTransfer  plugin.Type = "io.containerd.transfer.v1"
)

// transfers are what moves images, and the streams that clients use with it.
func (b *builder) transfers() []*plugin.Registration {
	return []*plugin.Registration{
		{Type: typeStreaming, ID: "manager", Requires: []plugin.Type{typeLease}, InitFn: b.initStreams},
		{Type: typeTransfer, ID: "local", Config: defaultTransferConfig(), InitFn: b.initTransfer,
			Requires: []plugin.Type{typeLease, typeMetadata, typeDiffer, typeSnapshotter, typeEvent}},
		{Type: typeGRPC, ID: "streaming", Requires: []plugin.Type{typeStreaming}, InitFn: initStreaming},
		{Type: typeGRPC, ID: "transfer", Requires: []plugin.Type{typeTransfer, typeStreaming}, InitFn: b.initTransferService},
	}
}

// transferConfig is the table of io.containerd.transfer.v1.local.
type transferConfig struct {
	MaxConcurrentDownloads      int    `toml:"max_concurrent_downloads"`
	ConcurrentLayerFetchBuffer  int    `toml:"concurrent_layer_fetch_buffer"`
	MaxConcurrentUploadedLayers int    `toml:"max_concurrent_uploaded_layers"`
	MaxConcurrentUnpacks        int    `toml:"max_concurrent_unpacks"`
	CheckPlatformSupported      bool   `toml:"check_platform_supported"`
	RegistryConfigPath          string `toml:"config_path"`
	// UnpackConfiguration replaces the default when it is there, also when it is empty.
	UnpackConfiguration []unpackConfig `toml:"unpack_config,omitempty"`
}

type unpackConfig struct {
	Platform    string   `toml:"platform"`
	Snapshotter string   `toml:"snapshotter"`
	Differ      string   `toml:"differ"`      // "" is the first that there is
	ConfigType  string   `toml:"config_type"` // taken and ignored: only images are unpacked
	LayerTypes  []string `toml:"layer_types"` // taken and ignored: the differ knows what it can do
	Optional    bool     `toml:"optional"`
}

// maxUnpacks bounds the default of max_concurrent_unpacks: unpacking more at a time only
// fills memory.
const maxUnpacks = 4

func defaultTransferConfig() *transferConfig {
	return &transferConfig{MaxConcurrentDownloads: 3, MaxConcurrentUploadedLayers: 3,
		MaxConcurrentUnpacks: min(runtime.NumCPU(), maxUnpacks)}
}

// defaultUnpacks are where images of the host's platform can go.
func defaultUnpacks() []unpackConfig {
	host := platforms.Format(platforms.DefaultSpec())
	return []unpackConfig{
		{Platform: host, Snapshotter: defaultSnapshotter},
		{Platform: host, Snapshotter: "native", Optional: true},
	}
}

const defaultSnapshotter = "overlayfs"

func (b *builder) initStreams(ic *plugin.InitContext) (any, error) {
	leases, err := lookup[leaseManager](ic, typeLease, "manager")
	if err != nil {
		return nil, err
	}
	m := stream.NewManager(leases, b.log)
	b.graph.onClose("streams", func(context.Context) error {
		m.Close()
		return nil
	})
	return m, nil
}

func initStreaming(ic *plugin.InitContext) (any, error) {
	m, err := lookup[*stream.Manager](ic, typeStreaming, "manager")
	if err != nil {
		return nil, err
	}
	return streaming.New(m), nil
}

func (b *builder) initTransferService(ic *plugin.InitContext) (any, error) {
	t, err := lookup[coretransfer.Transferrer](ic, typeTransfer, "local")
	if err != nil {
		return nil, err
	}
	streams, err := lookup[corestream.Getter](ic, typeStreaming, "manager")
	if err != nil {
		return nil, err
	}
	return transferservice.New(t, streams, b.log), nil
}

func (b *builder) initTransfer(ic *plugin.InitContext) (any, error) {
	cfg := ic.Config.(*transferConfig)
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	leases, err := lookup[leaseManager](ic, typeLease, "manager")
	if err != nil {
		return nil, err
	}
	exchange, err := lookup[*event.Exchange](ic, typeEvent, "exchange")
	if err != nil {
		return nil, err
	}
	told := notify.Publisher{Events: exchange, Log: b.log}
	targets, err := b.unpackTargets(ic, cfg, db, told)
	if err != nil {
		return nil, err
	}
	return transfer.New(transfer.Config{
		Content: told.Content(db.Content()), Images: told.Images(db.Images()), Leases: leases,
		Registries: registry.New(registry.Config{
			HostDir: cfg.RegistryConfigPath, UserAgent: "gantry/" + b.cfg.Build.Version,
			MaxDownloads: cfg.MaxConcurrentDownloads, Chunk: cfg.ConcurrentLayerFetchBuffer, Log: b.log,
		}),
		Targets: targets, DefaultSnapshotter: defaultSnapshotter, MaxUploads: cfg.MaxConcurrentUploadedLayers, Log: b.log,
	}), nil
}

// unpackTargets are the configured ones; of those that are optional, what there is.
func (b *builder) unpackTargets(ic *plugin.InitContext, cfg *transferConfig, db *metadata.DB, told notify.Publisher) ([]transfer.Target, error) {
	list := cfg.UnpackConfiguration
	if list == nil {
		list = defaultUnpacks()
	}
	var out []transfer.Target
	for _, u := range list {
		t, err := b.unpackTarget(ic, cfg, u, db, told)
		if err != nil && u.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("unpack_config for %s: %w", u.Snapshotter, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func (b *builder) unpackTarget(ic *plugin.InitContext, cfg *transferConfig, u unpackConfig, db *metadata.DB, told notify.Publisher) (transfer.Target, error) {
	var none transfer.Target
	platform, err := platforms.Parse(u.Platform)
	if err != nil {
		return none, errdefs.InvalidArgument("platform %q: %w", u.Platform, err)
	}
	sn, ok := db.Snapshotters()[u.Snapshotter]
	if !ok {
		return none, errdefs.NotFound("snapshotter %q: not found", u.Snapshotter)
	}
	applier, err := applierOf(ic, u.Differ)
	if err != nil {
		return none, err
	}
	target := transfer.Target{Platform: platforms.OnlyOS(platform), Snapshotter: u.Snapshotter}
	if cfg.CheckPlatformSupported {
		target.Platform = platforms.Only(platform)
	}
	target.Unpacker = unpack.New(unpack.Config{
		Content: db.Content(), Snapshotter: told.Snapshotter(u.Snapshotter, sn), Name: u.Snapshotter, Applier: applier,
		Log: b.log, Parallel: cfg.MaxConcurrentUnpacks, Rebase: rebases(ic, u.Snapshotter),
	})
	return target, nil
}

// rebases says whether a snapshotter can commit onto a parent.
func rebases(ic *plugin.InitContext, name string) bool {
	p := ic.Plugins().Get(typeSnapshotter, name)
	return p != nil && slices.Contains(p.Meta.Capabilities, snapshot.CapabilityRebase)
}

// applierOf is the differ of that name, or the first that came up.
func applierOf(ic *plugin.InitContext, name string) (diff.Applier, error) {
	if name != "" {
		return lookup[diff.Applier](ic, typeDiffer, name)
	}
	for _, p := range ic.GetAll() {
		if p.Registration.Type != typeDiffer {
			continue
		}
		if v, err := p.Instance(); err == nil {
			if a, ok := v.(diff.Applier); ok {
				return a, nil
			}
		}
	}
	return nil, errdefs.NotFound("no matching diff plugins")
}
