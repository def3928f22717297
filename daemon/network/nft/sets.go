package nft

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

// declare names the table and its sets; nothing is sent.
func (t *Table) declare() {
	t.table = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: t.name}
	target := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	var id uint32 // of a set within a transaction; the library's own counter has no lock
	set := func(s nftables.Set) *nftables.Set {
		id++
		s.Table, s.ID = t.table, id
		return &s
	}
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
}

func (t *Table) sets() []*nftables.Set {
	return []*nftables.Set{t.bridges, t.loops, t.subnets, t.masq, t.ports, t.anyports}
}

// elements are what sets hold.
type elements map[place]string

// place is an element's set and key.
type place struct {
	set, key string
	end      bool // of an interval
}

func (es elements) add(s *nftables.Set, e nftables.SetElement) {
	es[place{s.Name, string(e.Key), e.IntervalEnd}] = string(e.Val)
}

func (es elements) drop(s *nftables.Set, e nftables.SetElement) {
	delete(es, place{s.Name, string(e.Key), e.IntervalEnd})
}

// of lists the elements of a set by key; the end of an interval comes before the next
// one, which may begin where it ends: the kernel refuses them the other way round.
func (es elements) of(s *nftables.Set) (out []nftables.SetElement) {
	for p, val := range es {
		if p.set == s.Name {
			out = append(out, nftables.SetElement{Key: []byte(p.key), Val: []byte(val), IntervalEnd: p.end})
		}
	}
	slices.SortFunc(out, func(a, b nftables.SetElement) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 || a.IntervalEnd == b.IntervalEnd {
			return c
		}
		if a.IntervalEnd {
			return -1
		}
		return 1
	})
	return out
}

// wanted is everything that the table's sets must hold.
func (t *Table) wanted() elements {
	all := maps.Clone(t.published)
	for _, n := range t.networks {
		name := ifname(n.Bridge)
		all.add(t.bridges, nftables.SetElement{Key: name})
		all.add(t.loops, nftables.SetElement{Key: slices.Concat(name, name)})
		for _, e := range interval(n.Subnet) {
			all.add(t.subnets, e)
			if n.Masquerade {
				all.add(t.masq, e)
			}
		}
	}
	return all
}

// perMessage bounds the elements of one netlink message, whose list of them has 64 KiB.
const perMessage = 500

// fill adds the elements of all sets.
func (t *Table) fill(c *nftables.Conn) error {
	all := t.wanted()
	for _, s := range t.sets() {
		for some := range slices.Chunk(all.of(s), perMessage) {
			if err := c.SetAddElements(s, some); err != nil {
				return err
			}
		}
	}
	return nil
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
