// Package nft keeps the engine's firewall table: one table of family ip per engine,
// spoken to over netlink, each change one atomic transaction whose cost does not
// grow with the number of ports.
//
//	table ip NAME {
//	  set bridges  { ifname }                    our bridges
//	  set loops    { ifname . ifname }           each bridge twice
//	  set subnets  { ipv4_addr; interval }       the networks behind them
//	  set masq     { ipv4_addr; interval }       those of them that are masqueraded
//	  map ports    { daddr . proto . dport : address . port }   published on one address
//	  map anyports { proto . dport : address . port }           published on every address
//
//	  chain guard (prerouting, raw)     what comes from outside lo never reaches 127/8: with
//	                                    route_localnet on, a container could else read the
//	                                    host's loopback services
//	  chain prerouting, output (dstnat) to a local address: look up ports, then anyports
//	  chain postrouting (srcnat)        out of our networks, hairpins, and from 127/8
//	  chain forward (filter)            into a bridge: only answers, its own network, what was
//	                                    published; everything else is dropped
//	}
//
// A verdict of another table can still drop what this one accepts.
package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Network is a bridge and what is behind it.
type Network struct {
	Bridge     string
	Subnet     netip.Prefix // IPv4
	Masquerade bool
}

// Port publishes a container's port. An unspecified Host means every local address.
type Port struct {
	Proto    uint8 // IPPROTO_TCP, …
	Host     netip.Addr
	HostPort uint16
	To       netip.AddrPort
}

// Table is the engine's table. It knows what it must hold and makes it so again where
// it was changed behind its back: when a change fails, and on Repair. Safe for
// concurrent use.
type Table struct {
	name string

	mu        sync.Mutex // one transaction at a time; netlink is quick
	networks  []Network
	published elements        // of ports and anyports
	rules     []string        // as the kernel told them after the last write
	table     *nftables.Table // nil before Reset and after Remove
	bridges   *nftables.Set
	loops     *nftables.Set
	subnets   *nftables.Set
	masq      *nftables.Set
	ports     *nftables.Set
	anyports  *nftables.Set
}

// New returns the table of that name; Reset makes it.
func New(name string) *Table { return &Table{name: name} }

// Reset replaces the whole table, in one transaction, by one with these networks and ports.
func (t *Table) Reset(networks []Network, ports []Port) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.declare()
	t.networks, t.published = networks, elements{}
	for _, p := range ports {
		t.published.add(t.translation(p))
	}
	return t.write()
}

// write replaces the table by what it must hold, and notes how the kernel tells it.
func (t *Table) write() error {
	err := t.change("replace", func(c *nftables.Conn) error {
		c.DelTable(c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.name}))
		t.declare()
		c.AddTable(t.table)
		for _, s := range t.sets() {
			if err := c.AddSet(s, nil); err != nil {
				return fmt.Errorf("set %s: %w", s.Name, err)
			}
		}
		if err := t.fill(c); err != nil {
			return err
		}
		t.addChains(c)
		return nil
	})
	if err == nil {
		t.rules, err = t.readRules()
	}
	return err
}

// Remove deletes the table; one that is not there is no error.
func (t *Table) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table = nil
	return t.change("remove", func(c *nftables.Conn) error {
		c.DelTable(c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.name}))
		return nil
	})
}

// AddPorts publishes ports, all or none. A table that is not as it was left is made anew.
func (t *Table) AddPorts(ports []Port) error {
	return t.alter("publish ports in", ports, (*nftables.Conn).SetAddElements, elements.add)
}

// DeletePorts takes ports back, all or none; one that is not there is an error, unless
// the table was changed behind our back: then it is made anew, without them.
func (t *Table) DeletePorts(ports []Port) error {
	return t.alter("unpublish ports in", ports, (*nftables.Conn).SetDeleteElements, elements.drop)
}

// alter sends the elements of ports by op; note tells what the table must hold from then on.
func (t *Table) alter(what string, ports []Port, op func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error, note func(elements, *nftables.Set, nftables.SetElement)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(ports) == 0 {
		return nil
	}
	if t.table == nil {
		return fmt.Errorf("%s nft table ip %s: the table has not been made", what, t.name)
	}
	err := t.change(what, func(c *nftables.Conn) error {
		for _, p := range ports {
			s, e := t.translation(p)
			if err := op(c, s, []nftables.SetElement{e}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		if whole, rerr := t.whole(); rerr != nil || whole {
			return err
		}
	}
	before := maps.Clone(t.published)
	for _, p := range ports {
		s, e := t.translation(p)
		note(t.published, s, e)
	}
	if err != nil {
		if err = t.write(); err != nil {
			t.published = before
		}
	}
	return err
}

func (t *Table) change(what string, fill func(*nftables.Conn) error) error {
	c, err := nftables.New()
	if err == nil {
		if err = fill(c); err == nil {
			err = c.Flush()
		}
	}
	if err != nil {
		return fmt.Errorf("%s nft table ip %s: %w", what, t.name, err)
	}
	return nil
}

// translation is the element that publishes p, and the map that it is of.
func (t *Table) translation(p Port) (*nftables.Set, nftables.SetElement) {
	set, key := t.anyports, words([]byte{p.Proto}, port(p.HostPort))
	if !p.Host.IsUnspecified() {
		set, key = t.ports, append(p.Host.AsSlice(), key...)
	}
	val := append(p.To.Addr().AsSlice(), words(port(p.To.Port()))...)
	return set, nftables.SetElement{Key: key, Val: val}
}

// words pads each part of a concatenation to the four bytes of a register.
func words(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
