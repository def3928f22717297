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
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
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

// Table is the engine's table. Safe for concurrent use.
type Table struct {
	name string

	mu       sync.Mutex // one transaction at a time; netlink is quick
	table    *nftables.Table
	bridges  *nftables.Set
	loops    *nftables.Set
	subnets  *nftables.Set
	masq     *nftables.Set
	ports    *nftables.Set
	anyports *nftables.Set
}

// New returns the table of that name; Reset makes it.
func New(name string) *Table { return &Table{name: name} }

// Reset replaces the whole table, in one transaction, by one with these networks and ports.
func (t *Table) Reset(networks []Network, ports []Port) error {
	return t.change("replace", func(c *nftables.Conn) error {
		old := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.name})
		c.DelTable(old)
		t.table = c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.name})
		if err := t.addSets(c); err != nil {
			return err
		}
		for _, n := range networks {
			if err := t.addNetwork(c, n); err != nil {
				return err
			}
		}
		if err := t.setPorts(c, ports, c.SetAddElements); err != nil {
			return err
		}
		t.addChains(c)
		return nil
	})
}

// Remove deletes the table; one that is not there is no error.
func (t *Table) Remove() error {
	return t.change("remove", func(c *nftables.Conn) error {
		c.DelTable(c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.name}))
		t.table = nil
		return nil
	})
}

// AddPorts publishes ports, all or none.
func (t *Table) AddPorts(ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	return t.change("publish ports in", func(c *nftables.Conn) error { return t.setPorts(c, ports, c.SetAddElements) })
}

// DeletePorts takes ports back, all or none; one that is not there is an error.
func (t *Table) DeletePorts(ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	return t.change("unpublish ports in", func(c *nftables.Conn) error { return t.setPorts(c, ports, c.SetDeleteElements) })
}

func (t *Table) change(what string, fill func(*nftables.Conn) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
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

func (t *Table) addSets(c *nftables.Conn) error {
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	set := func(s nftables.Set) *nftables.Set { s.Table = t.table; return &s }
	t.bridges = set(nftables.Set{Name: "bridges", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian})
	t.loops = set(nftables.Set{Name: "loops", Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)})
	t.subnets = set(nftables.Set{Name: "subnets", KeyType: nftables.TypeIPAddr, Interval: true})
	t.masq = set(nftables.Set{Name: "masq", KeyType: nftables.TypeIPAddr, Interval: true})
	t.ports = set(nftables.Set{
		Name: "ports", IsMap: true, Concatenation: true, DataType: target,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
	})
	t.anyports = set(nftables.Set{
		Name: "anyports", IsMap: true, Concatenation: true, DataType: target,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
	})
	for _, s := range []*nftables.Set{t.bridges, t.loops, t.subnets, t.masq, t.ports, t.anyports} {
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	return nil
}

func (t *Table) addNetwork(c *nftables.Conn, n Network) error {
	if err := c.SetAddElements(t.bridges, []nftables.SetElement{{Key: ifname(n.Bridge)}}); err != nil {
		return err
	}
	pair := append(ifname(n.Bridge), ifname(n.Bridge)...)
	if err := c.SetAddElements(t.loops, []nftables.SetElement{{Key: pair}}); err != nil {
		return err
	}
	span := interval(n.Subnet)
	if err := c.SetAddElements(t.subnets, span); err != nil || !n.Masquerade {
		return err
	}
	return c.SetAddElements(t.masq, span)
}

// setPorts adds or deletes the elements of ports, by op.
func (t *Table) setPorts(c *nftables.Conn, ports []Port, op func(*nftables.Set, []nftables.SetElement) error) error {
	if t.table == nil {
		return fmt.Errorf("the table has not been made")
	}
	for _, p := range ports {
		set, key := t.anyports, words([]byte{p.Proto}, port(p.HostPort))
		if !p.Host.IsUnspecified() {
			set, key = t.ports, append(p.Host.AsSlice(), key...)
		}
		val := append(p.To.Addr().AsSlice(), words(port(p.To.Port()))...)
		if err := op(set, []nftables.SetElement{{Key: key, Val: val}}); err != nil {
			return err
		}
	}
	return nil
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

// interval is the half-open span of a prefix, as the kernel wants it.
func interval(p netip.Prefix) []nftables.SetElement {
	first := p.Masked().Addr().As4()
	end := binary.BigEndian.Uint32(first[:]) + uint32(1)<<(32-p.Bits())
	return []nftables.SetElement{
		{Key: first[:]},
		{Key: binary.BigEndian.AppendUint32(nil, end), IntervalEnd: true},
	}
}
