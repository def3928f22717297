package server

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	coretask "gantry/libctr/core/task"
	"gantry/libctr/event"
	"gantry/libctr/metadata"
	"gantry/libctr/task"
)

// shimConfig is what shims are started with.
type shimConfig struct {
	Env       []string `toml:"env"`        // NAME=VALUE; SCHED_CORE=1 is core scheduling
	SocketDir string   `toml:"socket_dir"` // of their sockets; "" is <state>/s
}

// initShims checks what the runtime then uses.
func (b *builder) initShims(ic *plugin.InitContext) (any, error) {
	cfg := ic.Config.(*shimConfig)
	for _, v := range cfg.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return nil, errdefs.InvalidArgument("env: %q is not NAME=VALUE", v)
		}
	}
	switch dir := cfg.SocketDir; {
	case dir == "":
		cfg.SocketDir = socketDir(b.cfg.State)
	case !filepath.IsAbs(dir):
		return nil, errdefs.InvalidArgument("socket_dir %q must be an absolute path", dir)
	case len(filepath.Clean(dir)) > maxSocketDir:
		return nil, errdefs.InvalidArgument("socket_dir %q is longer than %d bytes", dir, maxSocketDir)
	}
	return cfg, nil
}

// migrateShims moves what was the runtime's until version 2.
func migrateShims(_ context.Context, from int, plugins map[string]any) error {
	const before, now = "io.containerd.runtime.v2.task", "io.containerd.shim.v1.manager"
	table, _ := plugins[before].(map[string]any)
	on, there := table["sched_core"]
	if from != 2 || !there {
		return nil
	}
	delete(table, "sched_core")
	wanted, ok := on.(bool)
	if !ok {
		return errdefs.InvalidArgument("%s: sched_core is no boolean", before)
	}
	if wanted {
		plugins[now] = map[string]any{"env": []any{"SCHED_CORE=1"}}
	}
	return nil
}

type runtimeConfig struct {
	Platforms []string `toml:"platforms"` // taken and ignored: there is only the host's
	// Aliases are names of runtimes that stand for others, in clients' containers and sandboxes.
	Aliases map[string]string `toml:"aliases"`
}

// defaultRuntimeConfig has what clients of containerd ask for, unless told otherwise, run
// by our shim: it takes the same options.
func defaultRuntimeConfig() *runtimeConfig {
	return &runtimeConfig{Aliases: map[string]string{"io.containerd.runc.v2": "io.containerd.gantry.v2"}}
}

func (b *builder) initRuntime(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	exchange, err := lookup[*event.Exchange](ic, typeEvent, "exchange")
	if err != nil {
		return nil, err
	}
	shims, err := lookup[*shimConfig](ic, typeShim, "manager")
	if err != nil {
		return nil, err
	}
	bounds, err := timeoutsOf(b.cfg.Timeouts)
	if err != nil {
		return nil, err
	}
	ic.Meta.Platforms = []ocispec.Platform{platforms.DefaultSpec()}
	ic.Meta.Exports["log-uri-schemes"] = "fifo,binary,file"
	ic.Meta.Capabilities = []string{coretask.CapabilityShim, coretask.CapabilityExits}
	m, err := task.New(ic.Context, task.Config{
		Root:         ic.Properties[propRoot],
		State:        ic.Properties[propState],
		Address:      b.cfg.GRPC.Address,
		TTRPCAddress: b.cfg.TTRPC.Address,
		Binary:       b.cfg.Binary,
		ShimDir:      b.cfg.ShimDir,
		SocketDir:    shims.SocketDir,
		ShimEnv:      shims.Env,
		Aliases:      ic.Config.(*runtimeConfig).Aliases,
		Version:      b.cfg.Build.Version,
		Debug:        b.cfg.Debug.Level == "debug" || b.cfg.Debug.Level == "trace",
		Timeouts:     bounds.ofTasks(),
		Containers:   db.Containers(),
		Mounts:       taskMounts(ic),
		Events:       exchange,
		Log:          b.log,
		Tracing:      b.cfg.Tracing,
	})
	if err != nil {
		return nil, err
	}
	b.graph.onClose("task manager", func(context.Context) error { return m.Close() })
	return m, nil
}

// maxSocketDir leaves room for a socket that is named by a SHA-256.
const maxSocketDir = 107 - 1 - 64

// socketDir is where shims put their sockets; "" when the path is so long that one
// would not fit.
func socketDir(state string) string {
	if dir := filepath.Join(state, "s"); len(dir) <= maxSocketDir {
		return dir
	}
	return ""
}
