package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	systemtypes "github.com/docker/docker/api/types/system"
	"github.com/opencontainers/go-digest"

	"gantry/daemon/config"
	"gantry/daemon/container"
	"gantry/daemon/device"
	"gantry/daemon/exec"
	"gantry/daemon/host"
	"gantry/daemon/image"
	"gantry/daemon/keeper"
	"gantry/daemon/logger"
	"gantry/daemon/network"
	"gantry/daemon/network/hostfiles"
	"gantry/daemon/network/ipam"
	"gantry/daemon/probe"
	"gantry/daemon/registry"
	"gantry/daemon/spec"
	"gantry/daemon/system"
	"gantry/daemon/volume"
	"gantry/libctr/client"
)

func imageCore(c *config.Config, core Core) image.Core {
	return image.Core{
		Content: core.Content(), Images: core.Images(), Snapshots: core.Snapshotter(c.StorageDriver),
		Applier: core.Differ(), Comparer: core.Differ(), Leases: core.Leases(),
	}
}

func imageConfig(c *config.Config, core client.Abilities) image.Config {
	return image.Config{
		Snapshotter: c.StorageDriver, Rebase: slices.Contains(core.Rebases, c.StorageDriver), MaxDownloads: c.MaxDownloads, MaxUploads: c.MaxUploads, MaxDownloadAttempts: c.DownloadAttempts,
		Registry: registryConfig(c),
	}
}

func registryConfig(c *config.Config) registry.Config {
	return registry.Config{
		Insecure: c.Insecure, Mirrors: c.Mirrors,
		CertsDirs: []string{"/etc/gantry/certs.d", "/etc/docker/certs.d"},
		HTTPProxy: c.HTTPProxy, HTTPSProxy: c.HTTPSProxy, NoProxy: c.NoProxy,
	}
}

func networkConfig(c *config.Config) network.Config {
	n := network.Config{
		Instance: c.Instance(), Bridge: c.Bridge, MTU: c.MTU, DefaultIP: c.DefaultIP,
		Forward: c.IPForward, Masquerade: c.IPMasq, Firewall: c.IPTables, Relay: c.UserlandProxy,
		DNS:          hostfiles.Resolver{Servers: c.DNS, Search: c.DNSSearch, Options: c.DNSOpts},
		HostGateways: c.HostGatewayIPs, Dir: filepath.Join(c.ExecRoot, "netns"),
	}
	if n.Bridge == "" {
		n.Bridge = config.DefaultBridge
	}
	n.Address, _ = netip.ParsePrefix(c.BIP) // checked with the configuration; "" is none
	for _, p := range c.AddressPools {
		n.Pools = append(n.Pools, ipam.Pool{Base: p.Base, Size: p.Size})
	}
	return n
}

func (d *Daemon) makeContainers(c *config.Config, core Core) error {
	conf, err := containerConfig(c, d.Host, core.Abilities)
	if err != nil {
		return err
	}
	conf.Remap = d.remap
	d.devices = device.New(c.CDISpecDirs, c.CDI())
	keepers := keeper.New(keeper.Config{Dir: conf.IORoot, Debug: c.Debug}, d.log)
	d.onClose(keepers.Close)
	d.Containers, err = container.New(conf, container.Deps{
		Containers: core.Containers(), Tasks: core.Tasks(), CoreEvents: core.Events(),
		Images: d.Images, Volumes: d.Volumes, Networks: timedNetworks(d.Networks, d.Metrics), Events: d.Events, Keepers: keepers,
		Devices: d.devices,
	}, d.db, d.run, d.log)
	if err != nil {
		return err
	}
	if c.CgroupParent == "" && !c.SystemdCgroup() { // made for containers by our name: gone with the last of them
		d.onClose(func() error { return host.RemoveCgroup(c.ContainerCgroup()) })
	}
	d.onClose(d.Containers.Close)
	d.Images.SetUsers(d.imageUsers)
	d.Execs = exec.New(exec.Config{NoNewPrivileges: conf.NoNewPrivileges, Ulimits: conf.Ulimits, Host: conf.Host, Keepers: keepers}, d.Containers, core.Tasks(), d.log)
	d.onClose(d.Execs.Close)
	d.Probes = probe.New(countedChecks(d.Containers, d.Metrics), d.Execs, core.Tasks(), nil, d.log)
	d.onClose(d.Probes.Close)
	return nil
}

// imageUsers tells images which containers use them; the empty id asks for all.
func (d *Daemon) imageUsers(id digest.Digest) []image.User {
	var users []image.User
	for _, c := range d.Containers.All() {
		if id != "" && c.Image != id {
			continue
		}
		u := image.User{ContainerID: c.ID, ImageID: c.Image, Ref: c.Config.Image, Running: c.Status.Up()}
		if c.Manifest != nil {
			u.Manifest = c.Manifest.Digest
		}
		users = append(users, u)
	}
	return users
}

func (d *Daemon) makeSystem(c *config.Config, core Core) (err error) {
	if d.id, err = system.EngineID(c.DataRoot); err != nil {
		return err
	}
	d.System = system.New(d.systemConfig(c), system.Deps{
		Containers: d.Containers, Images: d.Images, Volumes: d.Volumes, Networks: d.Networks, Events: d.Events, Core: core.Introspection(), Layers: d.Images,
		Registry: d.Images.Registries(), Devices: d.devices,
	}, d.log)
	return nil
}

func (d *Daemon) systemConfig(c *config.Config) system.Config {
	conf := system.Config{
		ID: d.id, DataRoot: c.DataRoot, MinAPIVersion: c.MinAPIVersion, Debug: c.Debug, Experimental: c.Experimental, LiveRestore: c.LiveRestore,
		Labels: c.Labels, Host: d.Host, Driver: c.StorageDriver,
		DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		CgroupDriver: c.CgroupDriver, CgroupnsMode: c.CgroupnsMode,
		SeccompProfile: c.SeccompProfile, NoNewPrivileges: c.NoNewPrivileges, Remapped: !d.remap.Empty(),
		LoggingDriver: c.LogDriver, LogDrivers: logger.Drivers(), VolumeDrivers: []string{volume.Driver},
		NetworkDrivers: []string{"bridge", "host", "null"}, DefaultRuntime: c.DefaultRuntime,
		Runtimes: map[string]systemtypes.Runtime{}, InitBinary: filepath.Base(cmp.Or(c.InitPath, "gantry-init")),
		InsecureRegistries: c.Insecure, Mirrors: c.Mirrors, HTTPProxy: c.HTTPProxy, HTTPSProxy: c.HTTPSProxy, NoProxy: c.NoProxy,
		FirewallBackend: "nftables", CoreName: coreName(c), CoreAddress: c.CoreSocket(), CoreNamespace: c.Namespace, PluginNamespace: c.PluginNamespace,
		AuthorizationPlugins: c.Authorization, CDISpecDirs: c.CDISpecDirs,
	}
	if !c.IPTables {
		conf.FirewallBackend = ""
	}
	for _, h := range c.Hosts {
		proto, addr, _ := strings.Cut(h, "://")
		conf.Hosts = append(conf.Hosts, system.Listener{Proto: proto, Addr: addr, TLS: c.UseTLS(), TLSVerify: c.TLSVerify.Value})
	}
	for name, r := range c.Runtimes {
		conf.Runtimes[name] = systemtypes.Runtime{Path: r.Path, Args: r.Args, Type: r.Type, Options: r.Options}
	}
	for _, p := range c.AddressPools {
		conf.AddressPools = append(conf.AddressPools, system.AddressPool{Base: p.Base, Size: p.Size})
	}
	return conf
}

func containerConfig(c *config.Config, features host.Features, core client.Abilities) (container.Config, error) {
	conf := container.Config{
		Root: filepath.Join(c.DataRoot, "containers"), IORoot: filepath.Join(c.ExecRoot, "io"),
		DataRoot: c.DataRoot, Sources: filepath.Join(c.ExecRoot, "sources"),
		Snapshotter: c.StorageDriver, HeedExits: !core.KeepsExits, NoMappedLayers: !core.MapsLayers, DefaultRuntime: c.DefaultRuntime,
		CgroupParent: c.ContainerCgroup(), CgroupPrefix: c.Instance(), SystemdCgroup: c.SystemdCgroup(),
		Defaults: containerDefaults(c),
		Init:     c.Init, InitPath: c.InitPath, NoNewPrivileges: c.NoNewPrivileges, SeccompProfile: c.SeccompProfile,
		Log:  containertypes.LogConfig{Type: c.LogDriver, Config: c.LogOpts},
		Host: features, Experimental: c.Experimental,
	}
	for _, u := range c.Ulimits {
		conf.Ulimits = append(conf.Ulimits, u)
	}
	if conf.InitPath == "" {
		self, err := os.Executable()
		if err != nil {
			return conf, err
		}
		conf.InitPath = filepath.Join(filepath.Dir(self), "gantry-init")
	}
	if p := c.SeccompProfile; !slices.Contains([]string{"", "builtin", "unconfined"}, p) {
		raw, err := os.ReadFile(p)
		if err != nil {
			return conf, fmt.Errorf("read seccomp profile: %w", err)
		}
		conf.SeccompProfile = string(raw)
	}
	var err error
	conf.Runtimes, err = runtimes(c, core)
	return conf, err
}

// coreName is what the version of the core is told under; "" is our own.
func coreName(c *config.Config) string {
	if c.Containerd != "" {
		return "containerd"
	}
	return ""
}

func containerDefaults(c *config.Config) spec.Defaults {
	return spec.Defaults{
		ShmSize: c.ShmSize, IpcMode: containertypes.IpcMode(c.IpcMode), CgroupnsMode: containertypes.CgroupnsMode(c.CgroupnsMode),
	}
}
