package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"gantry/api/shimwire"
	"gantry/libctr/client"
)

// joinTimeout is how long a containerd may take to come up: at boot it starts beside us.
const joinTimeout = 15 * time.Second

// joinCore becomes a client of the core that the configuration names. Nothing of ours
// is made for it, and it goes on when we end; the connection comes back by itself when it
// has been away.
func (e *engine) joinCore(ctx context.Context) error {
	address := e.cfg.Containerd
	opts := []client.Option{client.WithNamespace(e.cfg.Namespace)}
	if e.tracer != nil {
		opts = append(opts, client.WithTracing(e.tracer))
	}
	var err error
	if e.client, err = client.New(address, opts...); err != nil {
		return err
	}
	e.onStop(func(context.Context) error { return e.client.Close() })
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := e.client.Ready(ctx); err != nil {
		return fmt.Errorf("containerd at %s does not answer: %w", address, err)
	}
	dir, err := ownDir()
	if err != nil {
		return err
	}
	place := client.Place{Address: address, Shim: filepath.Join(dir, shimwire.Binary), Snapshotter: e.cfg.StorageDriver}
	if e.abilities, err = e.client.Discover(ctx, place); err != nil {
		return err
	}
	version, revision, err := e.client.Introspection().Version(ctx)
	if err != nil {
		return fmt.Errorf("containerd at %s: %w", address, err)
	}
	e.log.Info("stands on another's core", "address", address, "version", version, "revision", revision, "shim", e.abilities.Shim, "path", e.abilities.ShimPath)
	if e.abilities.Shim == "" {
		e.log.Warn("the core does not see our shim: containers run under runc's, and keepers hold their streams")
	}
	return nil
}
