package network

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/docker/api/types/events"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/undo"
	"gantry/daemon/network/bridge"
	"gantry/daemon/network/hostfiles"
	"gantry/daemon/network/netns"
	"gantry/daemon/userns"
)

// Host ends of veth pairs are named veth and seven hex digits, as dockerd's.
const (
	vethPrefix = "veth"
	vethDigits = 7
)

// Allocate makes the network of a container that is about to start: its namespace,
// link, address and published ports, and the files that its resolver reads. On error
// nothing is left. Not for network mode container:*.
func (s *Service) Allocate(ctx context.Context, r Request) (_ *Sandbox, err error) {
	ctx, end := step(ctx, "allocate network")
	defer end(&err)
	n, want, err := s.resolve(r)
	if err != nil {
		return nil, wrongSetup(err)
	}
	// What an earlier start may have left, after a crash for one.
	if err := s.Release(ctx, r.ContainerID); err != nil {
		return nil, wrongSetup(err)
	}
	if n.Name == hostNetwork && !r.Disabled {
		if !r.IDs.Empty() { // refused before, but for a container of an earlier configuration
			return nil, wrongSetup(errdefs.InvalidArgument("cannot share the host's network namespace when user namespaces are enabled"))
		}
		return s.allocateHost(r, n)
	}
	e := endpoint{
		Container: r.ContainerID, Name: r.Name, ID: newID(), Network: n.Name,
		Netns: filepath.Join(s.cfg.Dir, r.ContainerID[:min(12, len(r.ContainerID))]),
	}
	if !r.IDs.Empty() {
		e.Userns = e.Netns + "-user"
	}
	var u undo.Stack
	defer u.OnError(ctx, 10*time.Second, &err)
	u.Add("forget endpoint", func(context.Context) error { return s.forget(e.Container) })
	failpoint.Hit("daemon/network.allocate.released")
	link := n.Name == bridgeNetwork && !r.Disabled
	if link {
		if err := s.address(&e, n, want, &u); err != nil {
			return nil, wrongSetup(err)
		}
	}
	if err := s.keep(e); err != nil {
		return nil, wrongSetup(err)
	}
	failpoint.Hit("daemon/network.allocate.recorded")
	ns, err := namespaces(ctx, e, r.IDs, &u)
	if err != nil {
		return nil, wrongSetup(err)
	}
	defer ns.Close()
	failpoint.Hit("daemon/network.allocate.netns")
	if link {
		if err := s.join(ctx, ns, &e, r, n, &u); err != nil {
			return nil, wrongSetup(err)
		}
	}
	_, written := step(ctx, "write hosts, hostname and resolv.conf")
	sb, err := s.sandbox(r, n, e)
	written(&err)
	if err != nil {
		return nil, wrongSetup(err)
	}
	failpoint.Hit("daemon/network.allocate.files")
	s.publish(events.ActionConnect, n, e.Container)
	return sb, nil
}

// namespaces makes the container's network namespace, and the user namespace that owns it
// where the container has ids of its own. The file is the network namespace's.
func namespaces(ctx context.Context, e endpoint, ids userns.Mapping, u *undo.Stack) (ns *os.File, err error) {
	_, made := step(ctx, "make network namespace")
	defer made(&err)
	if e.Userns == "" {
		ns, err = netns.Create(e.Netns, bridge.Inside)
	} else {
		ns, err = netns.CreateOwned(e.Netns, e.Userns, ids, bridge.Inside)
	}
	if err != nil {
		return nil, err
	}
	u.Add("remove network namespace", func(context.Context) error { return netns.Remove(e.Netns) })
	if e.Userns != "" {
		u.Add("remove user namespace", func(context.Context) error { return netns.Remove(e.Userns) })
	}
	return ns, nil
}

func (s *Service) allocateHost(r Request, n record) (*Sandbox, error) {
	e := endpoint{Container: r.ContainerID, Name: r.Name, ID: newID(), Network: n.Name}
	if err := s.keep(e); err != nil {
		return nil, wrongSetup(err)
	}
	failpoint.Hit("daemon/network.allocate.host-recorded")
	sb, err := s.sandbox(r, n, e)
	if err != nil {
		s.forget(e.Container)
		return nil, wrongSetup(err)
	}
	s.publish(events.ActionConnect, n, e.Container)
	return sb, nil
}

// address takes an address of n for e.
func (s *Service) address(e *endpoint, n record, want *networktypes.EndpointSettings, u *undo.Stack) error {
	s.mu.Lock()
	addr, err := s.space.Take()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	u.Add("release address", func(context.Context) error { s.releaseAddress(addr); return nil })
	e.Address = netip.PrefixFrom(addr, n.Address.Bits())
	e.MAC = macOf(addr).String()
	if want.MacAddress != "" {
		e.MAC = want.MacAddress
	}
	e.Veth = vethPrefix + newID()[:vethDigits]
	return nil
}

func (s *Service) releaseAddress(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.space != nil {
		s.space.Release(a)
	}
}

// join links the namespace to the bridge and publishes the ports.
func (s *Service) join(ctx context.Context, ns *os.File, e *endpoint, r Request, n record, u *undo.Stack) (err error) {
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return err
	}
	_, attached := step(ctx, "attach to bridge")
	err = bridge.Attach(ns, bridge.Port{
		Bridge: s.cfg.Bridge, Host: e.Veth, Inside: "eth0", MAC: mac,
		Address: e.Address, Gateway: n.Address.Addr(), MTU: s.cfg.MTU,
	})
	attached(&err)
	if err != nil {
		return err
	}
	u.Add("delete veth", func(context.Context) error { return bridge.Detach(e.Veth) })
	failpoint.Hit("daemon/network.allocate.attached")
	wanted, err := s.wantedPorts(r, e.Address.Addr())
	if err != nil || len(wanted) == 0 {
		return err
	}
	_, end := step(ctx, "publish ports")
	defer end(&err)
	external := func(err error) error {
		return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", r.Name, e.ID, err)
	}
	if e.Bindings, err = s.reserve(wanted); err != nil {
		return external(err)
	}
	u.Add("release ports", func(context.Context) error { s.ports.Release(e.Bindings); return nil })
	failpoint.Hit("daemon/network.allocate.ports-reserved")
	e.Translated = s.cfg.Firewall
	if err := s.keep(*e); err != nil {
		return err
	}
	failpoint.Hit("daemon/network.allocate.ports-recorded")
	if !s.cfg.Firewall {
		return nil
	}
	if err := s.table.AddPorts(translations(e.Bindings)); err != nil {
		return external(err)
	}
	failpoint.Hit("daemon/network.allocate.published")
	u.Add("unpublish ports", func(context.Context) error { return s.table.DeletePorts(translations(e.Bindings)) })
	return nil
}

// sandbox writes the files and describes what there is now.
func (s *Service) sandbox(r Request, n record, e endpoint) (*Sandbox, error) {
	extra, err := s.extraHosts(r.ExtraHosts)
	if err != nil {
		return nil, err
	}
	f := hostfiles.Files{
		Hostname: r.Hostname, Domainname: r.Domainname, Extra: extra, IPv6: hasIPv6(), Host: e.Netns == "",
		DNS: hostfiles.Resolver{
			Servers: slices.Concat(r.DNS), Search: slices.Concat(r.DNSSearch), Options: slices.Concat(r.DNSOptions),
		},
	}
	if len(f.DNS.Servers) == 0 {
		f.DNS.Servers = s.cfg.DNS.Servers
	}
	if len(f.DNS.Search) == 0 {
		f.DNS.Search = s.cfg.DNS.Search
	}
	if len(f.DNS.Options) == 0 {
		f.DNS.Options = s.cfg.DNS.Options
	}
	if e.Address.IsValid() {
		f.Addresses = []netip.Addr{e.Address.Addr()}
	}
	f.UID, f.GID = r.IDs.RootPair()
	paths, err := hostfiles.Write(r.Dir, f)
	if err != nil {
		return nil, err
	}
	sb := &Sandbox{
		NetnsPath: e.Netns, UsernsPath: e.Userns, Ports: nat.PortMap{}, HostsPath: paths.Hosts, NamePath: paths.Hostname, ResolvPath: paths.ResolvConf,
		Networks: map[string]*networktypes.EndpointSettings{}, Held: s.held(e.Bindings),
	}
	if e.Address.IsValid() {
		sb.Ports = portMap(r.Exposed, e.Bindings)
	}
	if !r.Disabled {
		sb.Networks[n.Name] = s.settings(n, e, r.Endpoints[n.Name])
	}
	return sb, nil
}

// settings is an endpoint as inspect shows it, on top of what was asked for.
func (s *Service) settings(n record, e endpoint, asked *networktypes.EndpointSettings) *networktypes.EndpointSettings {
	out := &networktypes.EndpointSettings{}
	if asked != nil {
		*out = *asked
		out.DriverOpts = maps.Clone(asked.DriverOpts)
	}
	out.NetworkID, out.EndpointID = n.ID, e.ID
	if e.Address.IsValid() {
		out.IPAddress, out.IPPrefixLen = e.Address.Addr().String(), e.Address.Bits()
		out.Gateway, out.MacAddress = n.Address.Addr().String(), e.MAC
	}
	return out
}

func (s *Service) publish(action events.Action, n record, container string) {
	s.events.Publish(events.NetworkEventType, action, events.Actor{ID: n.ID, Attributes: map[string]string{
		"container": container, "name": n.Name, "type": n.Driver,
	}})
}
