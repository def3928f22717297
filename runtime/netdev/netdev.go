// Package netdev moves network devices into a container's network namespace: OCI
// runtime-spec, config-linux.md, network devices. They are never moved out again but when
// the creation of their container fails: what becomes of them at its end is the kernel's
// matter.
package netdev

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Moved are devices that have been moved.
type Moved struct {
	here, there place
	list        []device
}

// device is one that has been moved, and what it was before.
type device struct {
	was   *netlink.LinkAttrs
	index int // in the namespace that it is in now
	addrs []netlink.Addr
}

// Move moves the devices into the namespace of a file, under their new names, with their
// permanent addresses of global scope, and sets them up. When one can't be moved all are
// back. Classes: NotFound, AlreadyExists, InvalidArgument.
func Move(ns *os.File, devices map[string]specs.LinuxNetDevice) (_ *Moved, err error) {
	m := &Moved{}
	defer func() {
		if err != nil {
			m.Back()
		}
	}()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	if same(own, ns) {
		return nil, fmt.Errorf("network devices: the container has no network namespace of its own: %w", errdefs.ErrInvalidArgument)
	}
	if m.here, err = openPlace(own); err != nil {
		return nil, err
	}
	if m.there, err = openPlace(ns); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		to := devices[name].Name
		if to == "" {
			to = name
		}
		if err := m.move(name, to); err != nil {
			return nil, fmt.Errorf("network device %s: %w", name, err)
		}
	}
	return m, nil
}

func same(a, b *os.File) bool {
	x, err := a.Stat()
	if err != nil {
		return false
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y)
}

// move reads all that is to be kept before the device goes down, which takes addresses of
// IPv6 away.
func (m *Moved) move(name, to string) error {
	link, err := m.here.LinkByName(name)
	if err != nil {
		return classed(err)
	}
	if _, err := m.there.LinkByName(to); err == nil {
		return fmt.Errorf("there is one named %s in the container: %w", to, errdefs.ErrAlreadyExists)
	}
	addrs, err := m.here.AddrList(link, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list addresses: %w", err)
	}
	before, err := m.there.indices()
	if err != nil {
		return err
	}
	if err := m.here.LinkSetDown(link); err != nil {
		return fmt.Errorf("set down: %w", err)
	}
	d := device{was: link.Attrs(), addrs: slices.DeleteFunc(addrs, passing)}
	err = m.here.send(d.was.Index, to, m.there)
	moved, ferr := m.there.arrived(before, to, name)
	if err = errors.Join(err, ferr); moved == nil {
		d.restore(m.here, link)
		return fmt.Errorf("move into the container: %w", errors.Join(err, notArrived(err)))
	}
	d.index = moved.Attrs().Index
	m.list = append(m.list, d)
	if err != nil { // it is there, under another name than it should have
		return fmt.Errorf("rename to %s: %w", to, err)
	}
	return d.configure(m.there, moved, true)
}

func notArrived(err error) error {
	if err != nil {
		return nil
	}
	return errors.New("it has not arrived")
}

func classed(err error) error {
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return fmt.Errorf("not found: %w", errdefs.ErrNotFound)
	}
	return err
}

// passing says of an address that it does not go with its device.
func passing(a netlink.Addr) bool {
	return a.Flags&unix.IFA_F_PERMANENT == 0 || a.Scope != unix.RT_SCOPE_UNIVERSE
}

// keptFlags are those that an address was given and not those that it came to.
const keptFlags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS

// configure gives a device its addresses, and sets it up.
func (d device) configure(p place, link netlink.Link, up bool) error {
	for _, a := range d.addrs {
		own := netlink.Addr{IPNet: a.IPNet, Peer: a.Peer, Broadcast: a.Broadcast, Flags: a.Flags & keptFlags}
		if err := p.AddrAdd(link, &own); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s: %w", a.IPNet, err)
		}
	}
	if !up {
		return nil
	}
	if err := p.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// restore makes a device what it was.
func (d device) restore(p place, link netlink.Link) {
	d.configure(p, link, d.was.Flags&net.FlagUp != 0)
}

// Back moves all devices back as they were, as far as that is possible, and closes m.
func (m *Moved) Back() {
	for _, d := range slices.Backward(m.list) {
		if link, err := m.there.LinkByIndex(d.index); err == nil {
			m.there.LinkSetDown(link)
		}
		before, err := m.here.indices()
		if err != nil {
			continue
		}
		m.there.send(d.index, d.was.Name, m.here)
		if link, err := m.here.LinkByName(d.was.Name); err == nil && !before[link.Attrs().Index] {
			d.restore(m.here, link)
		}
	}
	m.Close()
}

// Close lets go of the namespaces; the devices stay where they are. It may be called again,
// and on nil.
func (m *Moved) Close() {
	if m == nil {
		return
	}
	m.here.close()
	m.there.close()
	*m = Moved{}
}

// matches says whether name is what a template such as "eth%d" may have become.
func matches(template, name string) bool {
	prefix, ok := strings.CutSuffix(template, "%d")
	if !ok {
		return name == template
	}
	number, ok := strings.CutPrefix(name, prefix)
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// handleAt opens a netlink socket in a namespace.
func handleAt(ns *os.File) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return h, nil
}
