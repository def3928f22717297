package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/containerd/plugin"

	"gantry/api/errdefs"
)

// Properties of an init context.
const (
	propRoot  = "io.containerd.plugin.root"  // the plugin's directory under root
	propState = "io.containerd.plugin.state" // and under state; neither is made
)

// graph holds the plugins once they are initialised.
type graph struct {
	set *plugin.Set
	log *slog.Logger
	// closers run in reverse when the server stops.
	closers []closer
	// starters run once the server listens; served says that they have.
	starters []func()
	served   bool
}

type closer struct {
	name string
	run  func(context.Context) error
}

// onClose registers what ends a plugin.
func (g *graph) onClose(name string, run func(context.Context) error) {
	g.closers = append(g.closers, closer{name, run})
}

// onServe registers what begins when shims and clients can reach the server. It is not
// waited for.
func (g *graph) onServe(start func()) { g.starters = append(g.starters, start) }

func (g *graph) serve() {
	g.served = true
	for _, start := range g.starters {
		start()
	}
}

// close runs every closer, last first, and joins their errors.
func (g *graph) close(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(g.closers) {
		if err := c.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	g.closers = nil
	return errors.Join(errs...)
}

// init initialises the plugins that are not disabled, in the order of their
// Requires. It fails only for a required one, and for a configuration that can't be
// read.
func (g *graph) init(ctx context.Context, cfg Config, all []*plugin.Registration) error {
	registry, err := register(all)
	if err != nil {
		return err
	}
	for _, uri := range slices.Concat(cfg.DisabledPlugins, cfg.RequiredPlugins) {
		if !known(all, uri) {
			g.log.WarnContext(ctx, "configured plugin is not known", "plugin", uri)
		}
	}
	for uri := range cfg.Plugins {
		if !known(all, uri) {
			g.log.WarnContext(ctx, "configuration of a plugin that is not known is ignored", "plugin", uri)
		}
	}
	missing := slices.Clone(cfg.RequiredPlugins)
	for _, r := range registry.Graph(func(r *plugin.Registration) bool { return slices.Contains(cfg.DisabledPlugins, r.URI()) }) {
		p, err := g.initOne(ctx, cfg, r)
		if err != nil {
			return err
		}
		if err := g.set.Add(p); err != nil {
			return err
		}
		err = p.Err()
		if err == nil {
			missing = slices.DeleteFunc(missing, func(uri string) bool { return uri == r.URI() })
			continue
		}
		if slices.Contains(cfg.RequiredPlugins, r.URI()) {
			return fmt.Errorf("required plugin %s: %w", r.URI(), err)
		}
		g.report(ctx, r, err)
	}
	if len(missing) > 0 {
		return errdefs.FailedPrecondition("required plugins %v are not there", missing)
	}
	return nil
}

func (g *graph) report(ctx context.Context, r plugin.Registration, err error) {
	if plugin.IsSkipPlugin(err) {
		g.log.DebugContext(ctx, "plugin skipped", "plugin", r.URI(), "err", err)
		return
	}
	g.log.WarnContext(ctx, "plugin failed", "plugin", r.URI(), "err", err)
}

// initOne fails when the plugin's configuration can't be read; all else is the plugin's
// own failure.
func (g *graph) initOne(ctx context.Context, cfg Config, r plugin.Registration) (*plugin.Plugin, error) {
	ic := plugin.NewContext(ctx, g.set, map[string]string{
		propRoot:  filepath.Join(cfg.Root, r.URI()),
		propState: filepath.Join(cfg.State, r.URI()),
	})
	ic.Config = r.Config
	if err := cfg.decode(ctx, g.log, r.URI(), ic.Config); err != nil {
		return nil, err
	}
	r.InitFn = contained(r.InitFn)
	return r.Init(ic), nil
}

// contained turns a panic of a plugin into its error.
func contained(fn func(*plugin.InitContext) (any, error)) func(*plugin.InitContext) (any, error) {
	return func(ic *plugin.InitContext) (v any, err error) {
		defer func() {
			if p := recover(); p != nil {
				v, err = nil, errdefs.Internal("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return fn(ic)
	}
}

// register checks what the registry would panic at.
func register(all []*plugin.Registration) (registry plugin.Registry, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("register plugins: %v", p)
		}
	}()
	for _, r := range all {
		registry = registry.Register(r)
	}
	return registry, nil
}

func known(all []*plugin.Registration, uri string) bool {
	return slices.ContainsFunc(all, func(r *plugin.Registration) bool { return r.URI() == uri })
}

// lookup returns the instance of a plugin as a T.
func lookup[T any](ic *plugin.InitContext, typ plugin.Type, id string) (T, error) {
	var none T
	v, err := ic.GetByID(typ, id)
	if err != nil {
		return none, fmt.Errorf("needs plugin %s.%s: %w", typ, id, err)
	}
	t, ok := v.(T)
	if !ok {
		return none, errdefs.Internal("plugin %s.%s is a %T", typ, id, v)
	}
	return t, nil
}
