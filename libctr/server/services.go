package server

import (
	"fmt"

	"github.com/containerd/plugin"

	"gantry/api/errdefs"
	"gantry/libctr/checkpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/diff"
	"gantry/libctr/event"
	"gantry/libctr/metadata"
	"gantry/libctr/services/containers"
	contentservice "gantry/libctr/services/content"
	diffservice "gantry/libctr/services/diff"
	"gantry/libctr/services/events"
	"gantry/libctr/services/health"
	"gantry/libctr/services/images"
	"gantry/libctr/services/introspection"
	"gantry/libctr/services/leases"
	"gantry/libctr/services/namespaces"
	"gantry/libctr/services/snapshots"
	"gantry/libctr/services/tasks"
	"gantry/libctr/services/version"
	"gantry/libctr/task"
)

// differ is both ways between layers and mounts.
type differ = diff.Both

// services are the core's nouns as in-process interfaces: what an embedder or
// another plugin uses, and what the endpoints put on the wire.
func (b *builder) services() []*plugin.Registration {
	fromDB := func(id string, pick func(*metadata.DB) any) *plugin.Registration {
		return &plugin.Registration{Type: typeService, ID: id, Requires: []plugin.Type{typeMetadata},
			InitFn: func(ic *plugin.InitContext) (any, error) {
				db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
				if err != nil {
					return nil, err
				}
				return pick(db), nil
			}}
	}
	return []*plugin.Registration{
		fromDB("containers-service", func(db *metadata.DB) any { return db.Containers() }),
		fromDB("content-service", func(db *metadata.DB) any { return db.Content() }),
		fromDB("images-service", func(db *metadata.DB) any { return db.Images() }),
		fromDB("namespaces-service", func(db *metadata.DB) any { return db.Namespaces() }),
		fromDB("snapshots-service", func(db *metadata.DB) any { return db.Snapshotters() }),
		{Type: typeService, ID: "diff-service", Requires: []plugin.Type{typeDiffer}, Config: &diffConfig{Default: []string{"walking"}},
			InitFn: b.initDiffService},
		{Type: typeService, ID: "tasks-service", Requires: []plugin.Type{typeRuntime}, Config: &tasksConfig{}, InitFn: initTaskService},
		{Type: typeService, ID: "introspection-service", Requires: []plugin.Type{typeRuntime}, InitFn: b.initIntrospection},
	}
}

// tasksConfig names files of classes of devices' weights and of cache, which tasks
// choose by an annotation; neither is supported.
type tasksConfig struct {
	BlockIO string `toml:"blockio_config_file"`
	RDT     string `toml:"rdt_config_file"`
}

func initTaskService(ic *plugin.InitContext) (any, error) {
	if c := ic.Config.(*tasksConfig); c.BlockIO != "" || c.RDT != "" {
		return nil, errdefs.NotImplemented("blockio_config_file and rdt_config_file are not supported: containers name their limits themselves")
	}
	return lookup[*task.Manager](ic, typeRuntime, "task")
}

// diffConfig orders the differs: each is asked for what those before it do not do.
type diffConfig struct {
	Default []string `toml:"default"`
	SyncFS  bool     `toml:"sync_fs"` // of all that is applied, whoever asks
}

func (b *builder) initDiffService(ic *plugin.InitContext) (any, error) {
	cfg := ic.Config.(*diffConfig)
	ordered := diff.Ordered{SyncFS: cfg.SyncFS}
	for _, id := range cfg.Default {
		d, err := lookup[differ](ic, typeDiffer, id)
		if err != nil {
			return nil, fmt.Errorf("needed differ not loaded: %s: %w", id, err)
		}
		ordered.Differs = append(ordered.Differs, d)
	}
	return ordered, nil
}

func (b *builder) initIntrospection(ic *plugin.InitContext) (any, error) {
	cfg := introspection.Config{Dir: ic.Properties[propRoot], Plugins: b.graph.set.GetAll}
	if m, err := lookup[*task.Manager](ic, typeRuntime, "task"); err == nil {
		cfg.Runtimes = m
	}
	return introspection.New(cfg), nil
}

// endpoints are the gRPC services; an instance registers itself with the servers.
func (b *builder) endpoints() []*plugin.Registration {
	endpoint := func(id string, fn func(ic *plugin.InitContext, x *event.Exchange) (any, error)) *plugin.Registration {
		return &plugin.Registration{Type: typeGRPC, ID: id, Requires: []plugin.Type{typeService, typeLease, typeEvent, typeRuntime},
			InitFn: func(ic *plugin.InitContext) (any, error) {
				x, err := lookup[*event.Exchange](ic, typeEvent, "exchange")
				if err != nil {
					return nil, err
				}
				return fn(ic, x)
			}}
	}
	return []*plugin.Registration{
		endpoint("containers", with("containers-service", func(s containerStore, x *event.Exchange) any {
			return containers.New(s, x, b.log)
		})),
		endpoint("content", with("content-service", func(s content.Store, x *event.Exchange) any {
			return contentservice.New(s, x, b.log)
		})),
		endpoint("images", with("images-service", func(s imageStore, x *event.Exchange) any {
			return images.New(s, x, b.log)
		})),
		endpoint("namespaces", with("namespaces-service", func(s namespaceStore, x *event.Exchange) any {
			return namespaces.New(s, x, b.log)
		})),
		endpoint("snapshots", with("snapshots-service", func(s snapshotterMap, x *event.Exchange) any {
			return snapshots.New(s, x, b.log)
		})),
		endpoint("diff", with("diff-service", func(d differ, _ *event.Exchange) any { return diffservice.New(d, d) })),
		endpoint("tasks", initTasks),
		endpoint("introspection", with("introspection-service", func(s *introspection.Service, _ *event.Exchange) any { return s })),
		endpoint("leases", func(ic *plugin.InitContext, _ *event.Exchange) (any, error) {
			m, err := lookup[leaseManager](ic, typeLease, "manager")
			if err != nil {
				return nil, err
			}
			return leases.New(m), nil
		}),
		endpoint("events", b.initEvents),
		{Type: typeGRPC, ID: "version", InitFn: func(*plugin.InitContext) (any, error) {
			return version.New(b.cfg.Build.Version, b.cfg.Build.Revision), nil
		}},
		{Type: typeGRPC, ID: "healthcheck", InitFn: func(*plugin.InitContext) (any, error) { return health.New(), nil }},
	}
}

// initTasks gives the tasks what their checkpoints are kept in.
func initTasks(ic *plugin.InitContext, _ *event.Exchange) (any, error) {
	m, err := lookup[*task.Manager](ic, typeService, "tasks-service")
	if err != nil {
		return nil, err
	}
	blobs, err := lookup[content.Store](ic, typeService, "content-service")
	if err != nil {
		return nil, err
	}
	records, err := lookup[containerStore](ic, typeService, "containers-service")
	if err != nil {
		return nil, err
	}
	return tasks.New(m, checkpoint.New(blobs, records), ic.Properties[propState])
}

// with makes an endpoint of a service that is a T.
func with[T any](service string, fn func(T, *event.Exchange) any) func(*plugin.InitContext, *event.Exchange) (any, error) {
	return func(ic *plugin.InitContext, x *event.Exchange) (any, error) {
		s, err := lookup[T](ic, typeService, service)
		if err != nil {
			return nil, err
		}
		return fn(s, x), nil
	}
}

// initEvents lets the task manager see what shims forward, when there is one.
func (b *builder) initEvents(ic *plugin.InitContext, x *event.Exchange) (any, error) {
	if m, err := lookup[*task.Manager](ic, typeRuntime, "task"); err == nil {
		return events.New(x, m), nil
	}
	return events.New(x, x), nil
}
