package system_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	systemtypes "github.com/docker/docker/api/types/system"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
	"gantry/daemon/host"
	"gantry/daemon/system"
)

type containers func(context.Context, containertypes.ListOptions) ([]containertypes.Summary, error)

func (f containers) List(ctx context.Context, o containertypes.ListOptions) ([]containertypes.Summary, error) {
	return f(ctx, o)
}

func (f containers) Count() (running, paused, stopped int) { return 2, 1, 3 }

type images func() []*imagetypes.Summary

func (f images) List(context.Context, imagetypes.ListOptions) ([]*imagetypes.Summary, error) {
	return f(), nil
}

type volumes struct{}

func (volumes) DiskUsage(context.Context) ([]*volumetypes.Volume, error) { return nil, nil }

type feed struct{}

func (feed) Listeners() int { return 2 }
func (feed) Subscribe(context.Context, time.Time, time.Time, filters.Args, func() error, func(events.Message) error) error {
	return nil
}

type core func(context.Context) (string, string, error)

func (f core) Version(ctx context.Context) (string, string, error) { return f(ctx) }

type login func(*registry.AuthConfig) (string, error)

func (f login) Login(_ context.Context, a *registry.AuthConfig) (string, error) { return f(a) }

func deps() system.Deps {
	return system.Deps{
		Containers: containers(func(context.Context, containertypes.ListOptions) ([]containertypes.Summary, error) {
			var out []containertypes.Summary
			for _, s := range []string{"running", "restarting", "paused", "exited", "created", "dead"} {
				out = append(out, containertypes.Summary{ID: s, State: s})
			}
			return out, nil
		}),
		Images:  images(func() []*imagetypes.Summary { return []*imagetypes.Summary{{ID: "a", Size: 7}, {ID: "b", Size: 5}} }),
		Volumes: volumes{},
		Events:  feed{},
		Core:    core(func(context.Context) (string, string, error) { return "0.1.0", "abc", nil }),
	}
}

func service(cfg system.Config, d system.Deps) *system.Service {
	return system.New(cfg, d, slog.New(slog.DiscardHandler))
}

func config() system.Config {
	return system.Config{
		ID: "an-id", DataRoot: "/var/lib/gantry", Host: host.Detect(), SeccompProfile: "builtin", CgroupnsMode: "private",
		DefaultRuntime: "gantry", Driver: "overlayfs", CgroupDriver: "cgroupfs", LoggingDriver: "json-file",
	}
}

func TestInfo(t *testing.T) {
	info, err := service(config(), deps()).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Containers != 6 || info.ContainersRunning != 2 || info.ContainersPaused != 1 || info.ContainersStopped != 3 || info.Images != 2 {
		t.Errorf("counts %d %d %d %d %d", info.Containers, info.ContainersRunning, info.ContainersPaused, info.ContainersStopped, info.Images)
	}
	for name, v := range map[string]string{
		"ID": info.ID, "kernel": info.KernelVersion, "os": info.OperatingSystem, "arch": info.Architecture,
		"time": info.SystemTime, "name": info.Name, "cgroup version": info.CgroupVersion, "core": info.ContainerdCommit.ID,
	} {
		if v == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if info.NCPU < 1 || info.MemTotal < 1<<20 || info.NFd < 3 || info.NGoroutines < 1 || info.NEventsListener != 2 {
		t.Errorf("NCPU %d MemTotal %d NFd %d NGoroutines %d NEventsListener %d", info.NCPU, info.MemTotal, info.NFd, info.NGoroutines, info.NEventsListener)
	}
	for _, rt := range []string{"gantry", "runc", "io.containerd.runc.v2"} {
		if info.Runtimes[rt].Type != "io.containerd.gantry.v2" {
			t.Errorf("runtime %s: %+v", rt, info.Runtimes[rt])
		}
	}
	if string(info.Swarm.LocalNodeState) != "inactive" || info.Labels == nil || info.CDISpecDirs == nil {
		t.Errorf("%+v", info)
	}
}

func TestConfiguredRuntimeHidesBuiltin(t *testing.T) {
	cfg := config()
	cfg.Runtimes = map[string]systemtypes.Runtime{"runc": {Path: "/usr/sbin/runc"}}
	info, _ := service(cfg, deps()).Info(t.Context())
	if info.Runtimes["runc"].Path != "/usr/sbin/runc" || info.Runtimes["runc"].Type != "" || len(info.Runtimes) != 3 {
		t.Errorf("%+v", info.Runtimes)
	}
}

func TestWarnings(t *testing.T) {
	all := host.Features{
		MemoryLimit: true, SwapLimit: true, KernelMemoryTCP: true, OomKillDisable: true, CPUCfs: true, CPUShares: true, Cpuset: true, Seccomp: true,
		BlkioWeight: true, BlkioWeightDevice: true, BlkioReadBps: true, BlkioWriteBps: true, BlkioReadIOps: true, BlkioWriteIOps: true,
	}
	for _, row := range []struct {
		why  string
		edit func(*system.Config)
		want []string
	}{
		{"nothing missing", func(*system.Config) {}, nil},
		{"v1 without swap", func(c *system.Config) { c.Host.SwapLimit = false }, []string{"WARNING: No swap limit support"}},
		{"v1 without weight says nothing", func(c *system.Config) { c.Host.BlkioWeight = false }, nil},
		{"v1 without TCP limits", func(c *system.Config) { c.Host.KernelMemoryTCP = false }, []string{"WARNING: No kernel memory TCP limit support"}},
		{"v2 without TCP limits", func(c *system.Config) { c.Host.KernelMemoryTCP, c.Host.CgroupV2 = false, true }, nil},
		{"v2 without weight", func(c *system.Config) { c.Host.BlkioWeight, c.Host.CgroupV2 = false, true }, []string{"WARNING: No io.weight support"}},
		{"v2 without oom kill disable", func(c *system.Config) { c.Host.OomKillDisable, c.Host.CgroupV2 = false, true }, nil},
		{"own seccomp profile", func(c *system.Config) { c.SeccompProfile = "/p.json" }, []string{"WARNING: daemon is not using the default seccomp profile"}},
		{"plain tcp", func(c *system.Config) {
			c.Hosts = []system.Listener{{Proto: "unix"}, {Proto: "tcp", Addr: "0.0.0.0:2375"}}
		},
			[]string{"[DEPRECATION NOTICE]: API is accessible on http://0.0.0.0:2375 without encryption."}},
		{"tls without verify", func(c *system.Config) { c.Hosts = []system.Listener{{Proto: "tcp", Addr: "[::]:2376", TLS: true}} },
			[]string{"[DEPRECATION NOTICE]: API is accessible on https://[::]:2376 without TLS client verification."}},
		{"tls", func(c *system.Config) { c.Hosts = []system.Listener{{Proto: "tcp", TLS: true, TLSVerify: true}} }, nil},
	} {
		cfg := config()
		cfg.Host = all
		row.edit(&cfg)
		info, err := service(cfg, deps()).Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range info.Warnings {
			if w != "WARNING: IPv4 forwarding is disabled" { // of this machine
				first, _, _ := strings.Cut(w, "\n")
				got = append(got, first)
			}
		}
		if strings.Join(got, "|") != strings.Join(row.want, "|") {
			t.Errorf("%s: %q", row.why, got)
		}
	}
}

func TestRegistryConfig(t *testing.T) {
	cfg := config()
	cfg.InsecureRegistries = []string{"10.0.0.0/8", "reg.lan:5000"}
	cfg.Mirrors = []string{"https://mirror.lan/"}
	info, _ := service(cfg, deps()).Info(t.Context())
	r := info.RegistryConfig
	if len(r.InsecureRegistryCIDRs) != 3 || r.InsecureRegistryCIDRs[2].String() != "10.0.0.0/8" {
		t.Errorf("%v", r.InsecureRegistryCIDRs)
	}
	if x := r.IndexConfigs["reg.lan:5000"]; x == nil || x.Secure || x.Official {
		t.Errorf("%+v", x)
	}
	if hub := r.IndexConfigs["docker.io"]; !hub.Secure || !hub.Official || len(hub.Mirrors) != 1 {
		t.Errorf("%+v", hub)
	}
}

func TestProxyCredentialsAreMasked(t *testing.T) {
	cfg := config()
	cfg.HTTPProxy = "http://ann:secret@proxy.lan:3128"
	t.Setenv("NO_PROXY", "localhost")
	info, _ := service(cfg, deps()).Info(t.Context())
	if info.HTTPProxy != "http://xxxxx:xxxxx@proxy.lan:3128" || info.NoProxy != "localhost" {
		t.Errorf("%s %s", info.HTTPProxy, info.NoProxy)
	}
}

// Info and Version must come even when the core does not answer.
func TestSilentCore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deps()
		d.Core = core(func(ctx context.Context) (string, string, error) { <-ctx.Done(); return "", "", ctx.Err() })
		d.Containers = containers(func(context.Context, containertypes.ListOptions) ([]containertypes.Summary, error) {
			return nil, errors.New("database is closed")
		})
		s := service(config(), d)
		if info, err := s.Info(t.Context()); err != nil || info.ContainerdCommit.ID != "N/A" {
			t.Errorf("%+v %v", info, err)
		}
		if v, err := s.Version(t.Context()); err != nil || v.Components[1].Version != "N/A" {
			t.Errorf("%+v %v", v, err)
		}
	})
}

func TestVersion(t *testing.T) {
	v, err := service(config(), deps()).Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range v.Components {
		names = append(names, c.Name)
	}
	if strings.Join(names, ",") != "Engine,gantry core,gantry shim,gantry runtime,gantry-init" {
		t.Errorf("components %v", names)
	}
	if v.APIVersion != "1.51" || v.MinAPIVersion != "1.24" || v.Version == "" || v.Components[1].Details["GitCommit"] != "abc" {
		t.Errorf("%+v", v)
	}
}

func TestDiskUsage(t *testing.T) {
	s := service(config(), deps())
	du, err := s.DiskUsage(t.Context(), []types.DiskUsageObject{types.ImageObject, types.VolumeObject, types.ImageObject})
	if err != nil {
		t.Fatal(err)
	}
	if len(du.Images) != 2 || du.LayersSize != 12 || du.Volumes == nil || du.Containers != nil || du.BuildCache != nil {
		t.Errorf("%+v", du)
	}
}

func TestDiskUsageIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		d := deps()
		d.Containers = containers(func(context.Context, containertypes.ListOptions) ([]containertypes.Summary, error) {
			calls.Add(1)
			time.Sleep(time.Second)
			return []containertypes.Summary{{ID: "a"}}, nil
		})
		s := service(config(), d)
		kinds := []types.DiskUsageObject{types.ContainerObject}
		gone, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.DiskUsage(gone, kinds); !errors.Is(err, context.Canceled) {
				t.Errorf("the one that left: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if du, err := s.DiskUsage(t.Context(), kinds); err != nil || len(du.Containers) != 1 {
					t.Errorf("%+v %v", du, err)
				}
			})
		}
		synctest.Wait()
		cancel() // the first caller leaves, the others still get their answer
		wg.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calculations", n)
		}
	})
}

func TestAuth(t *testing.T) {
	s := service(config(), deps())
	if _, _, err := s.Auth(t.Context(), &registry.AuthConfig{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("without a registry: %v", err)
	}
	d := deps()
	d.Registry = login(func(a *registry.AuthConfig) (string, error) {
		if a.Password != "right" {
			return "", errdefs.Unauthenticated("incorrect username or password")
		}
		return "token", nil
	})
	s = service(config(), d)
	status, token, err := s.Auth(t.Context(), &registry.AuthConfig{Password: "right"})
	if status != "Login Succeeded" || token != "token" || err != nil {
		t.Errorf("%q %q %v", status, token, err)
	}
	if _, _, err := s.Auth(t.Context(), &registry.AuthConfig{}); !errors.Is(err, errdefs.ErrUnauthenticated) {
		t.Errorf("bad password: %v", err)
	}
}

func TestEngineID(t *testing.T) {
	dir := t.TempDir()
	id, err := system.EngineID(dir)
	if err != nil || len(id) != 36 {
		t.Fatalf("%q %v", id, err)
	}
	if again, err := system.EngineID(dir); again != id || err != nil {
		t.Errorf("%q %v, want %q", again, err, id)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("files %v", left)
	}
	if _, err := system.EngineID(filepath.Join(dir, "nope")); err == nil {
		t.Error("no error without a directory")
	}
}
