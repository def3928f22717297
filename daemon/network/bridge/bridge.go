// Package bridge makes bridges and the veth pairs that join network namespaces to
// them, over netlink.
package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
)

// alias marks the bridges that an engine made and may change.
const alias = "gantry"

// Find returns the IPv4 address of an existing bridge, or the zero Prefix when there
// is no such bridge or it has no address.
func Find(name string) (netip.Prefix, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return netip.Prefix{}, nil
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("look for bridge %s: %w", name, err)
	}
	if link.Type() != "bridge" {
		return netip.Prefix{}, fmt.Errorf("existing interface %s is not a bridge", name)
	}
	return address(link)
}

// OnLink lists the IPv4 networks of the host's interfaces and those that a route sends to
// one of them without a gateway.
func OnLink() ([]netip.Prefix, error) {
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var all []netip.Prefix
	add := func(n *net.IPNet) {
		if n == nil {
			return
		}
		ip, ok := netip.AddrFromSlice(n.IP.To4())
		if ones, _ := n.Mask.Size(); ok && ones > 0 {
			all = append(all, netip.PrefixFrom(ip, ones).Masked())
		}
	}
	for _, r := range routes {
		if r.Scope == netlink.SCOPE_LINK {
			add(r.Dst)
		}
	}
	for _, a := range addrs {
		add(a.IPNet)
	}
	return all, nil
}

func address(link netlink.Link) (netip.Prefix, error) {
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("list the addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			ones, _ := a.Mask.Size()
			return netip.PrefixFrom(ip, ones), nil
		}
	}
	return netip.Prefix{}, nil
}

// Ensure makes the bridge where it is missing, gives it the address and sets it up. A
// bridge that we did not make keeps the address that it has.
func Ensure(name string, addr netip.Prefix, mtu int) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		link, err = create(name, mtu)
	}
	if err == nil {
		err = prepare(link, addr)
	}
	if err != nil {
		return fmt.Errorf("set up bridge %s: %w", name, err)
	}
	return nil
}

func create(name string, mtu int) (netlink.Link, error) {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetAlias(br, alias); err != nil {
		netlink.LinkDel(br)
		return nil, err
	}
	return netlink.LinkByName(name)
}

func prepare(link netlink.Link, addr netip.Prefix) error {
	has, err := address(link)
	if err != nil {
		return err
	}
	name := link.Attrs().Name
	if has != addr {
		if has.IsValid() && link.Attrs().Alias != alias {
			return fmt.Errorf("bridge %s has the address %s and is not this engine's to change", name, has)
		}
		if err := replaceAddress(link, has, addr); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return EnableLocalnet(name)
}

// EnableLocalnet lets the address 127.0.0.1 leave on our bridge, translated; the
// firewall's guard keeps it from coming in.
func EnableLocalnet(name string) error {
	return sysctl("net/ipv4/conf/"+name+"/route_localnet", "1")
}

func replaceAddress(link netlink.Link, old, addr netip.Prefix) error {
	if old.IsValid() {
		if err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipnet(old)}); err != nil {
			return err
		}
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipnet(addr)})
}

// Remove deletes a bridge that an engine made; another, or none, is left alone.
func Remove(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) || err == nil && link.Attrs().Alias != alias {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete bridge %s: %w", name, err)
	}
	return nil
}

// Port is one end of a veth pair in a container's namespace.
type Port struct {
	Bridge  string
	Host    string // name of the host's end
	Inside  string // name of the other, "eth0"
	MAC     net.HardwareAddr
	Address netip.Prefix
	Gateway netip.Addr
	MTU     int
}

// Attach makes the pair of p, one end on the bridge and the other in ns, with its
// address and default route. On error nothing is left.
func Attach(ns *os.File, p Port) (err error) {
	br, err := netlink.LinkByName(p.Bridge)
	if err != nil {
		return fmt.Errorf("look for bridge %s: %w", p.Bridge, err)
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.Host, MTU: p.MTU, MasterIndex: br.Attrs().Index, Flags: net.FlagUp},
		PeerName:  p.Inside, PeerHardwareAddr: p.MAC, PeerMTU: uint32(p.MTU), PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth pair %s: %w", p.Host, err)
	}
	failpoint.Hit("daemon/network/bridge.attach.linked")
	// A container that reaches itself through a published port: where bridged frames
	// are translated (br_netfilter), they leave by the port that they came in.
	if err = netlink.LinkSetHairpin(pair, true); err == nil {
		err = configure(ns, p)
	}
	if err != nil {
		netlink.LinkDel(pair)
	}
	return err
}

// configure sets up the end inside.
func configure(ns *os.File, p Port) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in the container's namespace: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(p.Inside)
	if err != nil {
		return fmt.Errorf("find %s inside: %w", p.Inside, err)
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipnet(p.Address)}); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p.Address, p.Inside, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", p.Inside, err)
	}
	if !p.Gateway.IsValid() {
		return nil
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: p.Gateway.AsSlice()}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("add default route by %s: %w", p.Gateway, err)
	}
	return nil
}

// Detach deletes the pair by the name of its host end; one that is gone is fine.
func Detach(host string) error {
	link, err := netlink.LinkByName(host)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete veth %s: %w", host, err)
	}
	return nil
}

// attempts bounds how often a list is asked for that changes while it is told.
const attempts = 20

// whole asks for a list of the kernel's until none of it has changed meanwhile. Among
// others that come and go all the time, the last is taken as it is.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range attempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil
}

// Ports lists the host ends on a bridge.
func Ports(bridge string) ([]string, error) {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", bridge, err)
	}
	all, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var names []string
	for _, l := range all {
		if l.Attrs().MasterIndex == br.Attrs().Index && l.Type() == "veth" {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// Inside prepares a new network namespace; it runs on a thread in it. Interfaces that
// come later have no IPv6, loopback keeps ::1.
func Inside() error {
	if err := sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !os.IsNotExist(err) {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// EnableForwarding lets the host route IPv4.
func EnableForwarding() error { return sysctl("net/ipv4/ip_forward", "1") }

// sysctl writes only what changes: a write makes the kernel tell its listeners.
func sysctl(key, value string) error {
	if now, err := os.ReadFile(filepath.Join("/proc/sys", key)); err == nil && string(bytes.TrimSpace(now)) == value {
		return nil
	}
	return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
