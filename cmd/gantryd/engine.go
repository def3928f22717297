package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"go.opentelemetry.io/otel/trace"

	"gantry/api/version"
	"gantry/cmd/gantryd/memory"
	"gantry/cmd/gantryd/tracing"
	"gantry/daemon"
	"gantry/daemon/config"
	"gantry/libctr/client"
	core "gantry/libctr/server"
	"gantry/router/build"
	"gantry/router/container"
	"gantry/router/debug"
	"gantry/router/distribution"
	"gantry/router/exec"
	"gantry/router/image"
	"gantry/router/network"
	"gantry/router/plugin"
	"gantry/router/route"
	"gantry/router/server"
	"gantry/router/session"
	"gantry/router/swarm"
	"gantry/router/system"
	"gantry/router/volume"
)

// engine is the whole process: the core, the daemon on it and the API before that.
type engine struct {
	cfg       *config.Config
	log       *slog.Logger
	tracer    trace.TracerProvider // nil when nobody wants spans
	core      *core.Server         // nil on another's core
	client    *client.Client
	abilities client.Abilities // of the core
	daemon    *daemon.Daemon
	api       *server.Server
	debug     atomic.Bool // the routes of /debug are there
	listeners []net.Listener
	undo      []func(context.Context) error // in the order of what they undo
}

const (
	stopTimeout   = 20 * time.Second // bounds the orderly end of everything but containers
	startsTimeout = 5 * time.Second  // for the containers' starts that clients wait for
)

// newEngine brings everything up but the API, which serve opens. When it fails nothing
// is left running.
func newEngine(ctx context.Context, c *config.Config, log *slog.Logger) (_ *engine, err error) {
	e := &engine{cfg: c, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	pid, err := newPidfile(c.PidFile)
	if err != nil {
		return nil, err
	}
	e.onStop(func(context.Context) error { pid.remove(); return nil })
	unlock, err := lockRoots(c)
	if err != nil {
		return nil, err
	}
	e.onStop(unlock)
	tp, flush, err := tracing.New(ctx)
	if err != nil {
		return nil, err
	}
	e.tracer = tp
	e.onStop(flush)
	// Opened first, so that a client that comes early waits instead of being refused.
	if e.listeners, err = listen(c, log); err != nil {
		return nil, err
	}
	e.onStop(func(context.Context) error { closeAll(e.listeners); return nil })
	if c.Containerd != "" {
		err = e.joinCore(ctx)
	} else {
		err = e.startCore(ctx)
	}
	if err != nil {
		return nil, err
	}
	if e.daemon, err = daemon.New(c, daemon.Core{Client: e.client, Abilities: e.abilities}, log); err != nil {
		return nil, err
	}
	e.onStop(func(context.Context) error { return e.daemon.Close() })
	if err := e.daemon.Restore(ctx); err != nil {
		return nil, err
	}
	// Not before: a plugin may be in a container.
	plugins, err := e.daemon.Authorization.Wake(ctx, c.Authorization)
	if err != nil {
		return nil, err
	}
	e.daemon.Authorization.Use(plugins)
	if err := e.serveMetrics(); err != nil {
		return nil, err
	}
	e.api, err = e.newAPI()
	return e, err
}

func (e *engine) onStop(f func(context.Context) error) { e.undo = append(e.undo, f) }

// startCore serves the core and becomes its client: by the same calls as any other, of
// which those that are no streams need no socket.
func (e *engine) startCore(ctx context.Context) error {
	socket := e.cfg.CoreSocket()
	dir, err := ownDir()
	if err != nil {
		return err
	}
	e.abilities = client.Own
	e.core, err = core.New(ctx, core.Config{
		Version: 3, Root: filepath.Join(e.cfg.DataRoot, "core"), State: filepath.Join(e.cfg.ExecRoot, "core"),
		RequiredPlugins: core.Essential(), GRPC: core.GRPCConfig{Address: socket}, Log: e.log.With("part", "core"), Tracing: e.tracer,
		ShimDir: dir, Build: core.Build{Version: version.Version, Revision: version.Commit},
		Debug: core.DebugConfig{Level: e.cfg.Level()},
	})
	if err != nil {
		return fmt.Errorf("set up the core: %w", err)
	}
	e.onStop(e.core.Stop)
	if err := e.core.Start(); err != nil {
		return fmt.Errorf("start the core: %w", err)
	}
	opts := []client.Option{client.WithNamespace(e.cfg.Namespace), client.WithLocal(e.core.Local())}
	if e.tracer != nil {
		opts = append(opts, client.WithTracing(e.tracer))
	}
	if e.client, err = client.New(socket, opts...); err != nil {
		return err
	}
	e.onStop(func(context.Context) error { return e.client.Close() })
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return e.client.Ready(ctx)
}

// ownDir is where our programs are, this one among them.
func ownDir() (string, error) {
	self, err := os.Executable()
	return filepath.Dir(self), err
}

func (e *engine) newAPI() (*server.Server, error) {
	d := e.daemon
	conf := server.Config{
		Version: version.Version, Experimental: e.cfg.Experimental, MinAPIVersion: e.cfg.MinAPIVersion, Log: e.log,
		Authorization: d.Authorization.Asker, Quiet: func() { memory.Trim(e.log) }, QuietAfter: memory.Rest,
	}
	if d.Metrics != nil {
		conf.Done = d.Metrics.Request
	}
	e.debug.Store(e.cfg.Debug)
	if e.tracer != nil {
		conf.Tracer = e.tracer.Tracer("gantry/router")
	}
	resources := []route.Resource{
		system.New(d.System),
		container.New(d.Containers, container.Config{CgroupV1: !d.Host.CgroupV2}),
		exec.New(d.Execs),
		image.New(d.Images),
		network.New(d.Networks),
		volume.New(d.Volumes),
		distribution.New(d.Images),
		build.New(), session.New(), swarm.New(), plugin.New(), debug.New(e.debug.Load),
	}
	return server.New(conf, resources...)
}

// serve answers the API until a signal says to end, and ends then.
func (e *engine) serve(ctx context.Context, in chan os.Signal, r *reloader) error {
	listenForEnd(in) // before anybody can know that we are there
	failed := make(chan error, len(e.listeners))
	for _, l := range e.listeners {
		go func() { failed <- e.api.Serve(l) }()
	}
	if _, err := sdnotify.SdNotify(false, sdnotify.SdNotifyReady); err != nil {
		e.log.Warn("notify systemd", "err", err)
	}
	e.log.Info("ready", "version", version.Version, "commit", version.Commit)
	told := make(chan struct{})
	go func() { signals(in, r, e.reload); close(told) }()
	var err error
	select {
	case err = <-failed:
		e.log.Error("the API does not serve any more", "err", err)
	case <-told:
	}
	sdnotify.SdNotify(false, sdnotify.SdNotifyStopping)
	return errors.Join(err, e.shutdown(ctx, r.current))
}

// reload applies what needs no restart, all of it or nothing.
func (e *engine) reload(c *config.Config, changed []string) error {
	if err := e.daemon.Reload(c, changed); err != nil {
		return err
	}
	e.debug.Store(c.Debug)
	return nil
}

// shutdown stops taking requests, then containers unless they live on, then the rest.
func (e *engine) shutdown(ctx context.Context, c *config.Config) error {
	apiCtx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	defer time.AfterFunc(startsTimeout, e.daemon.Containers.BreakStarts).Stop()
	err := e.api.Shutdown(apiCtx)
	if !c.LiveRestore {
		err = errors.Join(err, e.daemon.Containers.Shutdown(ctx, c.ShutdownTimeout))
	}
	return errors.Join(err, e.stop())
}

func (e *engine) stop() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for i := len(e.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, e.undo[i](ctx))
	}
	e.undo = nil
	return err
}
