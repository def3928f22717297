package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/version"
	"gantry/daemon/authorization"
	"gantry/daemon/config"
	"gantry/daemon/container"
	"gantry/daemon/health"
	"gantry/daemon/metrics"
	"gantry/daemon/network"
	"gantry/daemon/plugin"
	"gantry/daemon/probe"
	"gantry/daemon/system"
)

// makeAuthorization makes the service without plugins: they are woken when containers
// are up, in one of which they may be.
func (d *Daemon) makeAuthorization(c *config.Config) {
	d.Authorization = authorization.New(plugin.Directories{
		Sockets: []string{filepath.Join(c.ExecRoot, "plugins"), "/run/docker/plugins"},
		Specs:   []string{filepath.Join(filepath.Dir(c.ConfigFile), "plugins"), "/etc/docker/plugins", "/usr/lib/docker/plugins"},
	}, d.log)
	d.onClose(d.Authorization.Close)
}

// makeMetrics makes the metrics if they are to be served; otherwise nothing is counted.
func (d *Daemon) makeMetrics(c *config.Config) error {
	if c.MetricsAddr == "" {
		return nil
	}
	id, err := system.EngineID(c.DataRoot)
	if err != nil {
		return fmt.Errorf("set up metrics: %w", err)
	}
	m := system.ThisMachine()
	d.Metrics = metrics.New(metrics.Engine{
		Version: version.Version, Commit: version.Commit, Architecture: m.Architecture, Driver: c.StorageDriver,
		Kernel: m.Kernel, OS: m.OS, OSType: m.OSType, OSVersion: m.OSVersion, ID: id,
		CPUs: d.Host.NumCPU, Memory: uint64(d.Host.MemoryTotal),
	}, metrics.Sources{
		Containers: func() (running, paused, stopped int) { return d.Containers.Count() }, // they are made later
		Events:     d.Events.Published, Subscribers: d.Events.Listeners,
	})
	return nil
}

// timedNetworks are the networks, with the time that allocation and release take noted.
func timedNetworks(n container.Networks, m *metrics.Set) container.Networks {
	if m == nil {
		return n
	}
	return networkTimer{n, m}
}

type networkTimer struct {
	container.Networks
	metrics *metrics.Set
}

func (t networkTimer) Allocate(ctx context.Context, r network.Request) (*network.Sandbox, error) {
	start := time.Now()
	s, err := t.Networks.Allocate(ctx, r)
	if err == nil {
		t.metrics.Network("allocate", time.Since(start))
	}
	return s, err
}

func (t networkTimer) Release(ctx context.Context, containerID string) error {
	start := time.Now()
	err := t.Networks.Release(ctx, containerID)
	if err == nil {
		t.metrics.Network("release", time.Since(start))
	}
	return err
}

// countedChecks are the containers, with their health checks counted.
func countedChecks(c probe.Containers, m *metrics.Set) probe.Containers {
	if m == nil {
		return c
	}
	return checkCounter{c, m}
}

type checkCounter struct {
	probe.Containers
	metrics *metrics.Set
}

func (c checkCounter) Checked(id string, check health.Check, r containertypes.HealthcheckResult, valid func() bool) *health.Health {
	c.metrics.Check(r.ExitCode != 0)
	return c.Containers.Checked(id, check, r, valid)
}
