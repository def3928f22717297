package server

import (
	"context"

	"github.com/containerd/plugin"

	"gantry/api/reqctx"
	coresandbox "gantry/libctr/core/sandbox"
	"gantry/libctr/event"
	"gantry/libctr/metadata"
	"gantry/libctr/sandbox"
	"gantry/libctr/services/sandboxcontroller"
	"gantry/libctr/services/sandboxstore"
	"gantry/libctr/task"
)

const (
	typeSandboxStore      plugin.Type = "io.containerd.sandbox.store.v1"
	typeSandboxController plugin.Type = "io.containerd.sandbox.controller.v1"
)

// sandboxes are the records of sandboxes, the controllers that run them, and both on the
// wire.
func (b *builder) sandboxes() []*plugin.Registration {
	return []*plugin.Registration{
		{Type: typeSandboxStore, ID: "local", Requires: []plugin.Type{typeMetadata}, InitFn: initSandboxStore},
		{Type: typeSandboxController, ID: "shim", Requires: []plugin.Type{typeRuntime, typeMetadata}, InitFn: b.initSandboxController},
		{Type: typeGRPC, ID: "sandboxes", Requires: []plugin.Type{typeSandboxStore}, InitFn: initSandboxes},
		{Type: typeGRPC, ID: "sandbox-controllers", Requires: []plugin.Type{typeSandboxController, typeEvent},
			InitFn: b.initSandboxControllers},
	}
}

func initSandboxStore(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	return db.Sandboxes(), nil
}

// initSandboxController ends what an earlier process has left half-made, beside the start.
func (b *builder) initSandboxController(ic *plugin.InitContext) (any, error) {
	m, err := lookup[*task.Manager](ic, typeRuntime, "task")
	if err != nil {
		return nil, err
	}
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	c := sandbox.New(sandbox.Of(m), b.log)
	namespaces, err := db.Namespaces().List(ic.Context)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ic.Context))
	done := make(chan struct{})
	go func() { // ends with the namespaces, or the closer
		defer close(done)
		for _, ns := range namespaces {
			c.Sweep(reqctx.WithNamespace(ctx, ns))
		}
	}()
	b.graph.onClose("sandbox controller", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return c, nil
}

func initSandboxes(ic *plugin.InitContext) (any, error) {
	store, err := lookup[coresandbox.Store](ic, typeSandboxStore, "local")
	if err != nil {
		return nil, err
	}
	return sandboxstore.New(store), nil
}

// initSandboxControllers takes all that came up, our own and those of other processes.
func (b *builder) initSandboxControllers(ic *plugin.InitContext) (any, error) {
	x, err := lookup[*event.Exchange](ic, typeEvent, "exchange")
	if err != nil {
		return nil, err
	}
	all, err := ic.GetByType(typeSandboxController)
	if err != nil {
		return nil, err
	}
	controllers := make(map[string]coresandbox.Controller, len(all))
	for name, p := range all {
		if c, ok := p.(coresandbox.Controller); ok {
			controllers[name] = c
		}
	}
	return sandboxcontroller.New(controllers, x, b.log), nil
}
