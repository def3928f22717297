package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/userns"
)

// Request asks for the network of a container that is about to start.
type Request struct {
	ContainerID string
	Name        string // without the leading slash
	Hostname    string
	Domainname  string
	Dir         string // hosts, hostname and resolv.conf are written there
	Mode        containertypes.NetworkMode
	Endpoints   map[string]*networktypes.EndpointSettings // by network name or id
	Disabled    bool                                      // Config.NetworkDisabled: loopback only

	PortBindings nat.PortMap
	Exposed      nat.PortSet
	PublishAll   bool

	DNS, DNSSearch, DNSOptions, ExtraHosts []string

	// IDs are the container's in a user namespace of its own, which is made with the
	// network's and owns it; the zero value is the host's.
	IDs userns.Mapping
}

// Sandbox is what Allocate made.
type Sandbox struct {
	NetnsPath  string // "" is the host's namespace
	UsernsPath string // of the user namespace that owns it, "" is the host's
	Ports      nat.PortMap
	Networks   map[string]*networktypes.EndpointSettings
	HostsPath  string
	NamePath   string
	ResolvPath string
	// Held are the sockets that reserve the published ports, to be given to the shim;
	// the caller calls CloseHeld when that is done or has failed.
	Held []shimwire.Port
}

// CloseHeld closes the daemon's copies of the held sockets.
func (sb *Sandbox) CloseHeld() {
	for _, p := range sb.Held {
		p.File.Close()
	}
	sb.Held = nil
}

// Validate checks what can be checked when a container is created, in dockerd's words.
func (s *Service) Validate(r Request) error {
	for name, e := range r.Endpoints {
		if name == "default" {
			name = bridgeNetwork
		}
		if e == nil || containertypes.NetworkMode(name).IsUserDefined() {
			continue
		}
		if err := checkSettings(name, e); err != nil {
			return fmt.Errorf("invalid config for network %s: invalid endpoint settings:\n%w", name, err)
		}
	}
	if r.Mode.IsHost() || r.Mode.IsContainer() {
		return nil
	}
	for port, bindings := range r.PortBindings {
		if _, err := nat.ParsePort(port.Port()); err != nil {
			return errdefs.InvalidArgument("invalid port specification: %q", string(port))
		}
		for _, b := range bindings {
			if _, _, err := hostPorts(b.HostPort); err != nil {
				return errdefs.InvalidArgument("invalid port specification: %q", b.HostPort)
			}
			if b.HostIP != "" {
				if _, err := netip.ParseAddr(b.HostIP); err != nil {
					return errdefs.InvalidArgument("invalid IP address: %s", b.HostIP)
				}
			}
		}
	}
	return nil
}

// resolve finds the network that r starts in and the settings asked for there.
func (s *Service) resolve(r Request) (record, *networktypes.EndpointSettings, error) {
	name := string(r.Mode)
	standard := name == "" || r.Mode.IsDefault() || r.Mode.IsBridge()
	if standard {
		name = bridgeNetwork
		if _, ok := s.networks[bridgeNetwork]; !ok { // switched off: loopback only
			name = noneNetwork
		}
	}
	n, err := s.find(name)
	if err != nil {
		return record{}, nil, err
	}
	want := &networktypes.EndpointSettings{}
	for key, e := range r.Endpoints {
		if e == nil {
			continue
		}
		if key == n.Name || key == n.ID || standard && (key == "default" || key == bridgeNetwork) {
			want = e
			continue
		}
		if _, err := s.find(key); err != nil {
			return record{}, nil, err
		}
	}
	return n, want, checkSettings(n.Name, want)
}

// checkSettings refuses what only user-defined networks have.
func checkSettings(name string, want *networktypes.EndpointSettings) error {
	if c := want.IPAMConfig; c != nil && (c.IPv4Address != "" || c.IPv6Address != "") {
		return errdefs.InvalidArgument("user specified IP address is supported on user defined networks only")
	}
	if len(want.Aliases) > 0 && name != bridgeNetwork {
		return errdefs.InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
	}
	if want.MacAddress != "" {
		if _, err := net.ParseMAC(want.MacAddress); err != nil {
			return errdefs.InvalidArgument("invalid MAC address: %s", want.MacAddress)
		}
	}
	return nil
}

// find returns a network by name, id or unique id prefix.
func (s *Service) find(ref string) (record, error) {
	if n, ok := s.networks[ref]; ok {
		return n, nil
	}
	var found []record
	for _, n := range s.networks {
		if n.ID == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	if len(found) > 1 {
		return record{}, errdefs.InvalidArgument("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
	}
	if len(found) == 0 {
		return record{}, errdefs.NotFound("network %s not found", ref)
	}
	return found[0], nil
}

// extraHosts puts addresses where host-gateway stands.
func (s *Service) extraHosts(in []string) ([]string, error) {
	var out []string
	for _, e := range in {
		name, addr, ok := strings.Cut(e, ":")
		if !ok {
			return nil, errdefs.InvalidArgument("bad format for add-host: %q", e)
		}
		if addr != "host-gateway" {
			out = append(out, e)
			continue
		}
		gateways := s.cfg.HostGateways
		if br, ok := s.networks[bridgeNetwork]; ok && len(gateways) == 0 {
			gateways = []netip.Addr{br.Address.Addr()}
		}
		if len(gateways) == 0 {
			return nil, errdefs.InvalidArgument("unable to derive the IP value for host-gateway")
		}
		for _, g := range gateways {
			out = append(out, name+":"+g.String())
		}
	}
	return out, nil
}

func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return slices.Concat(net.HardwareAddr{0x02, 0x42}, b[:])
}

// wrongSetup puts dockerd's words before what failed at start.
func wrongSetup(err error) error {
	return fmt.Errorf("failed to set up container networking: %w", err)
}
