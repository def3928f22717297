package server

import (
	"context"
	"time"

	"github.com/containerd/plugin"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
	"gantry/libctr/event"
	"gantry/libctr/metadata"
	"gantry/libctr/restart"
	"gantry/libctr/task"
)

const typeContainerMonitor plugin.Type = "io.containerd.monitor.container.v1"

// restartConfig is of the monitor that keeps containers running.
type restartConfig struct {
	Interval duration `toml:"interval"` // between two looks at the tasks
}

// restarter is the plugin that clients look for before they leave restart policies
// to the core.
func (b *builder) restarter() *plugin.Registration {
	return &plugin.Registration{
		Type: typeContainerMonitor, ID: "restart", Config: &restartConfig{Interval: duration(10 * time.Second)},
		Requires: []plugin.Type{typeMetadata, typeEvent, typeRuntime}, InitFn: b.initRestart, ConfigMigration: migrateRestart,
	}
}

func (b *builder) initRestart(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	exchange, err := lookup[*event.Exchange](ic, typeEvent, "exchange")
	if err != nil {
		return nil, err
	}
	tasks, err := lookup[*task.Manager](ic, typeRuntime, "task")
	if err != nil {
		return nil, err
	}
	ic.Meta.Capabilities = []string{restart.No, restart.Always, restart.OnFailure, restart.UnlessStopped}
	m := restart.New(restart.Config{
		Containers: db.Containers(), Tasks: tasks, Events: exchange, Namespaces: db.Namespaces(),
		Mounts: mountsOf(db.Snapshotters()), Interval: time.Duration(ic.Config.(*restartConfig).Interval), Log: b.log,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ic.Context))
	done := make(chan struct{})
	// Not before shims can tell what happens to the tasks that it starts.
	b.graph.onServe(func() {
		go func() { // ends with the closer
			defer close(done)
			m.Run(ctx)
		}()
	})
	b.graph.onClose("restart monitor", func(context.Context) error {
		cancel()
		if b.graph.served {
			<-done
		}
		return nil
	})
	return m, nil
}

// mountsOf finds the mounts of any snapshotter.
type mountsOf snapshotterMap

func (s mountsOf) Mounts(ctx context.Context, name, key string) ([]mount.Mount, error) {
	sn, ok := s[name]
	if !ok {
		return nil, errdefs.NotFound("snapshotter %q not found", name)
	}
	return sn.Mounts(ctx, key)
}

// migrateRestart follows the plugin to its type since version 2.
func migrateRestart(_ context.Context, from int, plugins map[string]any) error {
	const before, now = "io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart"
	if table, ok := plugins[before]; ok && from == 2 {
		delete(plugins, before)
		plugins[now] = table
	}
	return nil
}
