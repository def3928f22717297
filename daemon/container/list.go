package container

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/daemon/spec"
)

// List answers `docker ps`, newest first. It reads snapshots and waits for no lock.
func (s *Service) List(ctx context.Context, o containertypes.ListOptions) ([]containertypes.Summary, error) {
	f, err := s.newFilter(ctx, o)
	if err != nil {
		return nil, err
	}
	out := []containertypes.Summary{}
	names := s.imageNames(ctx)
	all := s.sorted()
	links := s.linkNames(all)
	for _, c := range all {
		verdict := f.match(c)
		if verdict == stop {
			break
		}
		if verdict == skip {
			continue
		}
		sum := summary(c, names(c))
		if more := links[c.ID]; more != nil {
			sum.Names = append(sum.Names, more...)
			slices.Sort(sum.Names)
		}
		out = append(out, sum)
		f.taken++
	}
	if o.Size {
		return out, s.measure(ctx, out)
	}
	return out, nil
}

// measure fills in the sizes, several at a time; that of a container which has gone is 0.
func (s *Service) measure(ctx context.Context, list []containertypes.Summary) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range list {
		g.Go(func() (err error) {
			list[i].SizeRw, list[i].SizeRootFs, err = s.sizes(ctx, list[i].ID)
			if errdefs.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

// sorted returns all containers, newest first.
func (s *Service) sorted() []*Snapshot {
	entries := s.all()
	out := make([]*Snapshot, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.snapshot())
	}
	slices.SortFunc(out, func(a, b *Snapshot) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return out
}

func summary(c *Snapshot, image string) containertypes.Summary {
	sum := containertypes.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: image, ImageID: c.Image.String(),
		ImageManifestDescriptor: manifestOf(c),
		Command:                 spec.Command(c.Path, c.Args), Created: c.Created.Unix(), Ports: ports(c),
		Labels: c.Config.Labels, State: string(c.Status), Status: statusText(c),
		NetworkSettings: &containertypes.NetworkSettingsSummary{Networks: summaryNetworks(c)},
		Mounts:          mountsOf(c),
	}
	sum.HostConfig.NetworkMode = string(c.Host.NetworkMode)
	sum.HostConfig.Annotations = c.Host.Annotations
	return sum
}

// imageNames returns a function that names the image of a container: the reference that
// the user gave while it still means the image, else the image's id. Each reference is
// looked up once.
func (s *Service) imageNames(ctx context.Context) func(*Snapshot) string {
	type asked struct {
		ref      string
		platform string
	}
	found := map[asked]digest.Digest{}
	return func(c *Snapshot) string {
		if c.Config.Image == "" || c.Config.Image == c.Image.String() {
			return c.Config.Image
		}
		key := asked{c.Config.Image, platforms.Format(c.Platform)}
		id, ok := found[key]
		if !ok {
			if img, err := s.Images.Resolve(ctx, c.Config.Image, &c.Platform); err == nil {
				id = img.ID
			}
			found[key] = id
		}
		if id != c.Image {
			return c.Image.String()
		}
		return c.Config.Image
	}
}

func summaryNetworks(c *Snapshot) map[string]*networktypes.EndpointSettings {
	out := networks(c)
	for k, n := range out {
		short := &networktypes.EndpointSettings{
			EndpointID: n.EndpointID, Gateway: n.Gateway, IPAddress: n.IPAddress, IPPrefixLen: n.IPPrefixLen,
			IPv6Gateway: n.IPv6Gateway, GlobalIPv6Address: n.GlobalIPv6Address,
			GlobalIPv6PrefixLen: n.GlobalIPv6PrefixLen, MacAddress: n.MacAddress, NetworkID: n.NetworkID,
			GwPriority: n.GwPriority,
		}
		if n.IPAMConfig != nil {
			short.IPAMConfig = &networktypes.EndpointIPAMConfig{
				IPv4Address: n.IPAMConfig.IPv4Address, IPv6Address: n.IPAMConfig.IPv6Address,
			}
		}
		out[k] = short
	}
	return out
}

// ports are the exposed and published ports of a running container, sorted.
func ports(c *Snapshot) []containertypes.Port {
	out := []containertypes.Port{}
	for port, bindings := range c.Network.Ports {
		private, err := nat.ParsePort(port.Port())
		if err != nil {
			continue
		}
		p := containertypes.Port{PrivatePort: uint16(private), Type: port.Proto()}
		if len(bindings) == 0 {
			out = append(out, p)
		}
		for _, b := range bindings {
			public, err := nat.ParsePort(b.HostPort)
			if err != nil {
				continue
			}
			p.IP, p.PublicPort = b.HostIP, uint16(public)
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b containertypes.Port) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), strings.Compare(a.Type, b.Type),
			strings.Compare(a.IP, b.IP), cmp.Compare(a.PublicPort, b.PublicPort))
	})
	return out
}
