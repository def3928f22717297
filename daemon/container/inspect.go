package container

import (
	"context"
	"maps"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/storage"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/daemon/health"
	"gantry/daemon/mountpoint"
	"gantry/daemon/spec"
)

// Inspect describes a container; size asks the snapshotter too. It waits for no lock.
func (s *Service) Inspect(ctx context.Context, ref string, size bool) (containertypes.InspectResponse, error) {
	e, err := s.find(ref)
	if err != nil {
		return containertypes.InspectResponse{}, err
	}
	c := e.snapshot()
	r := containertypes.InspectResponse{
		ContainerJSONBase: s.base(c), Mounts: mountsOf(c), Config: s.shownConfig(c),
		NetworkSettings: networkSettings(c), ImageManifestDescriptor: manifestOf(c),
	}
	if size {
		own, all, err := s.sizes(ctx, e.id)
		if err != nil {
			return containertypes.InspectResponse{}, err
		}
		r.SizeRw, r.SizeRootFs = &own, &all
	}
	return r, nil
}

func (s *Service) base(c *Snapshot) *containertypes.ContainerJSONBase {
	host := *c.Host
	host.Links = s.shownLinks(c)
	for _, d := range s.cfg.Ulimits {
		if !hasUlimit(c.Host.Ulimits, d.Name) {
			host.Ulimits = append(host.Ulimits[:len(host.Ulimits):len(host.Ulimits)], d)
		}
	}
	return &containertypes.ContainerJSONBase{
		ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Path: c.Path, Args: c.Args,
		State: &containertypes.State{
			Status: string(c.Status), Running: c.Status.Up(), Paused: c.Status == Paused,
			Restarting: c.Status == Restarting, OOMKilled: c.OOMKilled, Dead: c.Status == Dead,
			Pid: c.Pid, ExitCode: c.ExitCode, Error: c.Error,
			StartedAt: c.StartedAt.Format(time.RFC3339Nano), FinishedAt: c.FinishedAt.Format(time.RFC3339Nano),
			Health: health.Show(c.Health),
		},
		Image: c.Image.String(), Name: "/" + c.Name, RestartCount: c.RestartCount,
		ResolvConfPath: c.Network.ResolvPath, HostnamePath: c.Network.NamePath, HostsPath: c.Network.HostsPath,
		LogPath: shownLogPath(c), Driver: s.cfg.Snapshotter, Platform: c.Platform.OS,
		AppArmorProfile: s.appArmor(c), ExecIDs: s.execIDs(c.ID), HostConfig: &host, GraphDriver: storage.DriverData{Name: s.cfg.Snapshotter},
	}
}

// appArmor is the profile that a user has asked for.
func (s *Service) appArmor(c *Snapshot) string {
	sec, _ := spec.ParseSecurity(c.Host.SecurityOpt, s.cfg.NoNewPrivileges) // create has refused others
	return sec.AppArmor
}

// shownConfig is the configuration, with the names of the container whose network has been
// joined, which are what the container goes by once it has been started.
func (s *Service) shownConfig(c *Snapshot) *containertypes.Config {
	if !c.Host.NetworkMode.IsContainer() || c.StartedAt.IsZero() {
		return c.Config
	}
	donor, err := s.find(c.Host.NetworkMode.ConnectedContainer())
	if err != nil {
		return c.Config
	}
	out := *c.Config
	from := donor.snapshot().Config
	out.Hostname, out.Domainname = from.Hostname, from.Domainname
	return &out
}

func hasUlimit(list []*containertypes.Ulimit, name string) bool {
	for _, u := range list {
		if u.Name == name {
			return true
		}
	}
	return false
}

func mountsOf(c *Snapshot) []containertypes.MountPoint {
	out := make([]containertypes.MountPoint, 0, len(c.Mounts))
	for _, p := range c.Mounts {
		out = append(out, mountPoint(p))
	}
	return out
}

func mountPoint(p mountpoint.Point) containertypes.MountPoint {
	return containertypes.MountPoint{
		Type: p.Type, Name: p.Name, Source: p.Source, Destination: p.Destination,
		Driver: p.Driver, Mode: p.Mode, RW: p.RW, Propagation: p.Propagation,
	}
}

// networks are the endpoints as they are: those in use, else those asked for.
func networks(c *Snapshot) map[string]*networktypes.EndpointSettings {
	out := map[string]*networktypes.EndpointSettings{}
	from := c.Network.Networks
	if len(from) == 0 {
		from = c.Endpoints
	}
	for k, v := range from {
		out[k] = v.Copy()
	}
	return out
}

func networkSettings(c *Snapshot) *containertypes.NetworkSettings {
	ports := maps.Clone(c.Network.Ports)
	if ports == nil {
		ports = nat.PortMap{}
	}
	n := &containertypes.NetworkSettings{
		NetworkSettingsBase: containertypes.NetworkSettingsBase{ //nolint:staticcheck // older clients read it
			SandboxKey: c.Network.NetnsPath, Ports: ports,
		},
		Networks: networks(c),
	}
	if c.Network.NetnsPath != "" {
		n.SandboxID = c.ID
	}
	if b := n.Networks[networktypes.NetworkBridge]; b != nil {
		n.DefaultNetworkSettings = containertypes.DefaultNetworkSettings{ //nolint:staticcheck // older clients read it
			EndpointID: b.EndpointID, Gateway: b.Gateway, GlobalIPv6Address: b.GlobalIPv6Address,
			GlobalIPv6PrefixLen: b.GlobalIPv6PrefixLen, IPAddress: b.IPAddress, IPPrefixLen: b.IPPrefixLen,
			IPv6Gateway: b.IPv6Gateway, MacAddress: b.MacAddress,
		}
	}
	return n
}

func manifestOf(c *Snapshot) *ocispec.Descriptor {
	if c.Manifest == nil {
		return nil
	}
	m := *c.Manifest
	if m.Platform == nil {
		p := c.Platform
		m.Platform = &p
	}
	return &m
}

// sizes are what a container wrote, and that with the layers of its image.
func (s *Service) sizes(ctx context.Context, id string) (own, all int64, err error) {
	u, err := s.Images.Usage(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	below, err := s.Images.ParentUsage(ctx, id)
	return u.Size, u.Size + below, err
}
