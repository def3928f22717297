package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
	"golang.org/x/sys/unix"

	"gantry/api/shimwire"
	"gantry/daemon/network/nft"
	"gantry/daemon/network/portmap"
)

// wantedPorts turns what was asked for into requests, in a fixed order: fixed host
// ports first, so that an ephemeral one never takes a port that is asked for by number.
func (s *Service) wantedPorts(r Request, to netip.Addr) ([]portmap.Request, error) {
	var out []portmap.Request
	for port, bindings := range r.PortBindings {
		for _, b := range bindings {
			first, last, err := hostPorts(b.HostPort)
			if err != nil {
				return nil, err
			}
			out = append(out, portmap.Request{
				Proto: port.Proto(), To: netip.AddrPortFrom(to, uint16(port.Int())),
				Hosts: s.hosts(b.HostIP), First: first, Last: last,
			})
		}
		if len(bindings) == 0 {
			out = append(out, s.ephemeral(port, to))
		}
	}
	if r.PublishAll {
		for port := range r.Exposed {
			if _, bound := r.PortBindings[port]; !bound {
				out = append(out, s.ephemeral(port, to))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b portmap.Request) int {
		if (a.First == 0) != (b.First == 0) {
			return int(b.First) - int(a.First)
		}
		if c := int(a.To.Port()) - int(b.To.Port()); c != 0 {
			return c
		}
		return strings.Compare(a.Proto, b.Proto)
	})
	return out, nil
}

func (s *Service) ephemeral(port nat.Port, to netip.Addr) portmap.Request {
	return portmap.Request{Proto: port.Proto(), To: netip.AddrPortFrom(to, uint16(port.Int())), Hosts: s.hosts("")}
}

// hosts are the addresses that a HostIp stands for.
func (s *Service) hosts(ip string) []netip.Addr {
	if a, err := netip.ParseAddr(ip); err == nil {
		return []netip.Addr{a}
	}
	if s.cfg.DefaultIP.IsValid() && !s.cfg.DefaultIP.IsUnspecified() {
		return []netip.Addr{s.cfg.DefaultIP}
	}
	all := []netip.Addr{netip.IPv4Unspecified()}
	if s.cfg.Relay && hasIPv6() {
		all = append(all, netip.IPv6Unspecified())
	}
	return all
}

func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// hostPorts parses "", "8080" and "8000-8010".
func hostPorts(text string) (first, last uint16, err error) {
	if text == "" {
		return 0, 0, nil
	}
	lo, hi, ranged := strings.Cut(text, "-")
	if !ranged {
		hi = lo
	}
	a, err := strconv.ParseUint(lo, 10, 16)
	if err != nil {
		return 0, 0, fmt.Errorf("invalid port %q", text)
	}
	b, err := strconv.ParseUint(hi, 10, 16)
	if err != nil || b < a {
		return 0, 0, fmt.Errorf("invalid port range %q", text)
	}
	return uint16(a), uint16(b), nil
}

// reserve binds all that is wanted, or nothing.
func (s *Service) reserve(wanted []portmap.Request) ([]portmap.Binding, error) {
	var got []portmap.Binding
	for _, w := range wanted {
		b, err := s.ports.Reserve(w)
		if err != nil {
			s.ports.Release(got)
			return nil, err
		}
		got = append(got, b...)
	}
	return got, nil
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// translations are the bindings that the firewall's table serves: those on IPv4.
func translations(bs []portmap.Binding) (out []nft.Port) {
	for _, b := range bs {
		if b.Host.Addr().Is4() {
			out = append(out, nft.Port{Proto: protocols[b.Proto], Host: b.Host.Addr(), HostPort: b.Host.Port(), To: b.To})
		}
	}
	return out
}

// held are the sockets for the shim, each with where to relay to.
func (s *Service) held(bs []portmap.Binding) (out []shimwire.Port) {
	for _, b := range bs {
		if b.File == nil {
			continue
		}
		p := shimwire.Port{File: b.File, Proto: b.Proto}
		if s.cfg.Relay && b.Proto != "sctp" {
			p.Relay = b.To.String()
		}
		out = append(out, p)
	}
	return out
}

// portMap is what inspect shows: every exposed port, and where it is published.
func portMap(exposed nat.PortSet, bs []portmap.Binding) nat.PortMap {
	m := nat.PortMap{}
	for p := range exposed {
		m[p] = nil
	}
	for _, b := range bs {
		key := nat.Port(fmt.Sprintf("%d/%s", b.To.Port(), b.Proto))
		m[key] = append(m[key], nat.PortBinding{HostIP: b.Host.Addr().String(), HostPort: strconv.Itoa(int(b.Host.Port()))})
	}
	return m
}
