package system

import (
	"context"
	"os"
	"runtime"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/swarm"
	systemtypes "github.com/docker/docker/api/types/system"

	"gantry/api/version"
	"gantry/daemon/host"
)

// indexServer is what clients log in to by default; its form is Docker's.
const indexServer = "https://index.docker.io/v1/"

// Info tells about the host and the engine. What cannot be found out is logged and
// left empty: info is what one looks at when something is wrong.
func (s *Service) Info(ctx context.Context) (*systemtypes.Info, error) {
	c := s.cfg.Load()
	os := readOS()
	hostname, proxies := hostName(), s.proxies()
	info := &systemtypes.Info{
		ID:                 c.ID,
		Images:             s.countImages(ctx),
		Driver:             c.Driver,
		DriverStatus:       c.DriverStatus,
		Plugins:            systemtypes.PluginsInfo{Volume: c.VolumeDrivers, Network: c.NetworkDrivers, Log: c.LogDrivers, Authorization: c.AuthorizationPlugins},
		Debug:              c.Debug,
		NFd:                openFiles(),
		NGoroutines:        runtime.NumGoroutine(),
		NEventsListener:    s.deps.Events.Listeners(),
		SystemTime:         time.Now().Format(time.RFC3339Nano),
		LoggingDriver:      c.LoggingDriver,
		CgroupDriver:       c.CgroupDriver,
		KernelVersion:      kernelRelease(),
		OperatingSystem:    os.name,
		OSVersion:          os.version,
		OSType:             runtime.GOOS,
		Architecture:       machine(),
		IndexServerAddress: indexServer,
		RegistryConfig:     registryConfig(c.InsecureRegistries, c.Mirrors),
		NCPU:               c.Host.NumCPU,
		MemTotal:           int64(c.Host.MemoryTotal),
		DockerRootDir:      c.DataRoot,
		HTTPProxy:          proxies.http,
		HTTPSProxy:         proxies.https,
		NoProxy:            proxies.none,
		Name:               hostname,
		Labels:             append([]string{}, c.Labels...),
		ExperimentalBuild:  c.Experimental,
		ServerVersion:      version.Version,
		Runtimes:           runtimes(c.Runtimes),
		DefaultRuntime:     c.DefaultRuntime,
		Swarm:              swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled: c.LiveRestore,
		InitBinary:         c.InitBinary,
		ContainerdCommit:   systemtypes.Commit{ID: s.coreVersion(ctx).revision},
		RuncCommit:         systemtypes.Commit{ID: version.Commit},
		InitCommit:         systemtypes.Commit{ID: version.Commit},
		SecurityOptions:    securityOptions(c),
		CDISpecDirs:        append([]string{}, c.CDISpecDirs...),
		DiscoveredDevices:  []systemtypes.DeviceInfo{},
	}
	s.fillContainers(info)
	fillHost(info, c.Host)
	fillOptional(info, c)
	info.Warnings = warnings(c, info)
	s.fillDevices(info)
	if s.deps.Networks != nil {
		for _, w := range s.deps.Networks.Warnings() {
			info.Warnings = append(info.Warnings, "WARNING: "+w)
		}
	}
	return info, nil
}

func (s *Service) fillContainers(info *systemtypes.Info) {
	running, paused, stopped := s.deps.Containers.Count()
	info.ContainersRunning, info.ContainersPaused, info.ContainersStopped = running, paused, stopped
	info.Containers = running + paused + stopped
}

func (s *Service) countImages(ctx context.Context) int {
	list, err := s.deps.Images.List(ctx, imagetypes.ListOptions{})
	if err != nil {
		s.log.WarnContext(ctx, "count images", "err", err)
	}
	return len(list)
}

func (s *Service) fillDevices(info *systemtypes.Info) {
	if s.deps.Devices == nil {
		return
	}
	found, warnings := s.deps.Devices.List()
	info.DiscoveredDevices = append(info.DiscoveredDevices, found...)
	info.Warnings = append(info.Warnings, warnings...)
}

func fillHost(info *systemtypes.Info, f host.Features) {
	info.CgroupVersion = "1"
	if f.CgroupV2 {
		info.CgroupVersion = "2"
	}
	info.MemoryLimit = f.MemoryLimit
	info.SwapLimit = f.SwapLimit
	info.KernelMemory = f.KernelMemory       //nolint:staticcheck // served to older versions
	info.KernelMemoryTCP = f.KernelMemoryTCP //nolint:staticcheck // still told, as by dockerd
	info.OomKillDisable = f.OomKillDisable
	info.CPUCfsPeriod = f.CPUCfs
	info.CPUCfsQuota = f.CPUCfs
	info.CPUShares = f.CPUShares
	info.CPUSet = f.Cpuset
	info.PidsLimit = f.PidsLimit
	info.IPv4Forwarding = host.Forwarding() // may have been switched since the start
}

func fillOptional(info *systemtypes.Info, c *Config) {
	for _, p := range c.AddressPools {
		info.DefaultAddressPools = append(info.DefaultAddressPools, systemtypes.NetworkAddressPool{Base: p.Base.String(), Size: p.Size})
	}
	if c.FirewallBackend != "" {
		info.FirewallBackend = &systemtypes.FirewallInfo{Driver: c.FirewallBackend}
	}
	if c.CoreAddress != "" {
		info.Containerd = &systemtypes.ContainerdInfo{
			Address:    c.CoreAddress,
			Namespaces: systemtypes.ContainerdNamespaces{Containers: c.CoreNamespace, Plugins: c.PluginNamespace},
		}
	}
}

// builtinNames are the names of the built-in runtime, the first its own; the others
// are those that scripts know.
var builtinNames = []string{"gantry", "runc", "io.containerd.runc.v2"}

// builtinType names the shim that has the runtime in it.
const builtinType = "io.containerd.gantry.v2"

func runtimes(configured map[string]systemtypes.Runtime) map[string]systemtypes.RuntimeWithStatus {
	out := map[string]systemtypes.RuntimeWithStatus{}
	for _, name := range builtinNames {
		out[name] = systemtypes.RuntimeWithStatus{Runtime: systemtypes.Runtime{Type: builtinType}}
	}
	for name, rt := range configured {
		out[name] = systemtypes.RuntimeWithStatus{Runtime: rt}
	}
	return out
}

func securityOptions(c *Config) []string {
	var out []string
	if c.Host.AppArmor {
		out = append(out, "name=apparmor")
	}
	if c.Host.Seccomp {
		out = append(out, "name=seccomp,profile="+c.SeccompProfile)
	}
	if c.Remapped {
		out = append(out, "name=userns")
	}
	if c.Host.CgroupNamespaces && containertypes.CgroupnsMode(c.CgroupnsMode).IsPrivate() {
		out = append(out, "name=cgroupns")
	}
	if c.NoNewPrivileges {
		out = append(out, "name=no-new-privileges")
	}
	return out
}

func openFiles() int {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return -1
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return -1
	}
	return len(names) - 1 // the directory itself
}
