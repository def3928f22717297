// Package daemon wires the engine's services: it makes them in the order in which
// they need each other, takes up what an earlier run left, and stops them in the
// reverse order. It has no domain methods; each service is its own package.
//
// Two databases: <data-root>/gantry.db holds what must outlive a power cut,
// <exec-root>/run.db what only the present boot makes true, written without syncs and
// dropped when the kernel's boot id has changed.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/docker/docker/api/types/events"

	"gantry/api/database"
	"gantry/daemon/authorization"
	"gantry/daemon/config"
	"gantry/daemon/container"
	"gantry/daemon/device"
	"gantry/daemon/event"
	"gantry/daemon/exec"
	"gantry/daemon/host"
	"gantry/daemon/image"
	"gantry/daemon/metrics"
	"gantry/daemon/network"
	"gantry/daemon/probe"
	"gantry/daemon/system"
	"gantry/daemon/userns"
	"gantry/daemon/volume"
	"gantry/libctr/client"
)

// Daemon holds the services. Its fields are constant between New and Close.
type Daemon struct {
	Events     *event.Service
	Images     *image.Service
	Volumes    *volume.Service
	Networks   *network.Service
	Containers *container.Service
	Execs      *exec.Service
	Probes     *probe.Service
	System     *system.Service
	Host       host.Features

	Authorization *authorization.Service
	Metrics       *metrics.Set // nil where nobody wants any

	remap        userns.Mapping // of new containers
	devices      *device.Drivers
	abilities    client.Abilities // of the core
	id, hostname string
	db, run      *database.DB
	log          *slog.Logger
	closers      []func() error // in the order in which what they close was made
}

// Core is what the daemon stands on.
type Core struct {
	*client.Client
	Abilities client.Abilities
}

// New makes the services of c on the core; nothing runs before Restore. When it fails
// nothing is left open.
func New(c *config.Config, core Core, log *slog.Logger) (_ *Daemon, err error) {
	d := &Daemon{log: log, Host: host.Detect(), abilities: core.Abilities}
	d.hostname, _ = os.Hostname() // "" when the kernel has none
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := mkdirs(c.DataRoot, c.ExecRoot); err != nil {
		return nil, err
	}
	if err := d.loadRemap(c); err != nil {
		return nil, err
	}
	if err := d.openDatabases(c); err != nil {
		return nil, err
	}
	if d.Events, err = event.Open(filepath.Join(c.DataRoot, "events"), log); err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	d.onClose(d.Events.Close)
	d.Images = image.New(imageCore(c, core), imageConfig(c, core.Abilities), d.Events, log)
	if d.Volumes, err = volume.New(filepath.Join(c.DataRoot, "volumes"), d.db, d.Events, log); err != nil {
		return nil, err
	}
	d.Volumes.Own(d.remap.RootPair())
	if d.Networks, err = network.New(networkConfig(c), d.db, d.run, d.Events, log); err != nil {
		return nil, err
	}
	d.onClose(d.Networks.Close)
	d.makeAuthorization(c)
	if err := d.makeMetrics(c); err != nil {
		return nil, err
	}
	if err := d.makeContainers(c, core); err != nil {
		return nil, err
	}
	return d, d.makeSystem(c, core)
}

func (d *Daemon) openDatabases(c *config.Config) (err error) {
	if d.db, err = openDurable(c.DataRoot); err != nil {
		return err
	}
	d.onClose(d.db.Close)
	if d.run, err = openRuntime(c.ExecRoot, d.log); err != nil {
		return err
	}
	d.onClose(d.run.Close)
	return nil
}

func (d *Daemon) onClose(f func() error) { d.closers = append(d.closers, f) }

// Restore takes up what an earlier run left; call it once, before the first request.
func (d *Daemon) Restore(ctx context.Context) error {
	d.Images.Restore(ctx)
	if err := d.Containers.Restore(ctx); err != nil {
		return err
	}
	d.Execs.Restore(ctx)
	d.Volumes.UnmountUnused(ctx)
	return nil
}

// Reload applies the settings of c that need no restart, all of them or none.
func (d *Daemon) Reload(c *config.Config, changed []string) error {
	images := imageConfig(c, d.abilities)
	if err := images.Registry.Validate(); err != nil {
		return err
	}
	known, err := runtimes(c, d.abilities)
	if err != nil {
		return err
	}
	if err := d.reloadAuthorization(c, changed); err != nil {
		return err
	}
	d.Images.Reconfigure(images)
	d.Containers.Reconfigure(container.Config{
		Runtimes: known, DefaultRuntime: c.DefaultRuntime, Defaults: containerDefaults(c),
	})
	d.System.Reconfigure(d.systemConfig(c))
	d.Events.Publish(events.DaemonEventType, events.ActionReload, events.Actor{ID: d.id, Attributes: d.reloaded(c)})
	return nil
}

// Close ends the services; containers go on.
func (d *Daemon) Close() (err error) {
	for i := len(d.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, d.closers[i]())
	}
	d.closers = nil
	return err
}

// mkdirs makes the daemon's directories: the data's are root's only.
func mkdirs(dataRoot, execRoot string) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{dataRoot, 0o710}, {filepath.Join(dataRoot, "containers"), 0o710}, {filepath.Join(dataRoot, "volumes"), 0o711},
		{execRoot, 0o711}, {filepath.Join(execRoot, "io"), 0o700}, {filepath.Join(execRoot, "netns"), 0o711},
	} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}
