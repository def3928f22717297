package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers as nft numbers them: a 16-byte one, and the 4-byte ones a concatenation
// takes from its start.
const (
	reg      = unix.NFT_REG_1
	regWord1 = unix.NFT_REG32_01
	regWord2 = unix.NFT_REG32_02
)

const ctStatusDNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h

func (t *Table) addChains(c *nftables.Conn) {
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) func(...[]expr.Any) {
		accept := nftables.ChainPolicyAccept
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind, Hooknum: hook, Priority: prio, Policy: &accept})
		return func(parts ...[]expr.Any) {
			var all []expr.Any
			for _, p := range parts {
				all = append(all, p...)
			}
			c.AddRule(&nftables.Rule{Table: t.table, Chain: ch, Exprs: all})
		}
	}
	guard := chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	guard(iif(expr.CmpOpNeq, "lo"), loopback(addrDst), verdict(expr.VerdictDrop))
	guard(iif(expr.CmpOpNeq, "lo"), loopback(addrSrc), verdict(expr.VerdictDrop))

	for _, nat := range []func(...[]expr.Any){
		chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest),
		chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest),
	} {
		nat(toLocal(), t.dnat(t.ports, true))
		nat(toLocal(), t.dnat(t.anyports, false))
	}

	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	post(saddrIn(t.masq), t.oif(false), masquerade())
	post(t.oif(true), natted(), saddrIn(t.subnets), masquerade())
	post(t.oif(true), loopback(addrSrc), masquerade())

	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	forward(t.oif(true), answers(), verdict(expr.VerdictAccept))
	forward(t.oif(true), natted(), verdict(expr.VerdictAccept))
	forward(t.oif(true), t.within(), verdict(expr.VerdictAccept))
	forward(t.oif(true), verdict(expr.VerdictDrop))
}

// Offsets of the addresses in an IPv4 header.
const (
	addrSrc = 12
	addrDst = 16
)

func payload(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

func iif(op expr.CmpOp, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, &expr.Cmp{Op: op, Register: reg, Data: ifname(name)}}
}

// within is a packet between two ends of one of our bridges, which passes here only
// where bridged traffic is filtered.
func (t *Table) within() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_2},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: t.loops.Name, SetID: t.loops.ID},
	}
}

func (t *Table) oif(ours bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: t.bridges.Name, SetID: t.bridges.ID, Invert: !ours},
	}
}

func saddrIn(s *nftables.Set) []expr.Any {
	return []expr.Any{payload(addrSrc), &expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID}}
}

func loopback(offset uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{127}},
	}
}

func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: native(unix.RTN_LOCAL)},
	}
}

// dnat looks the packet up in a port map and translates it to what it finds.
func (t *Table) dnat(m *nftables.Set, byAddress bool) []expr.Any {
	var e []expr.Any
	proto, service := uint32(reg), uint32(regWord1)
	if byAddress {
		e = append(e, payload(addrDst))
		proto, service = regWord1, regWord2
	}
	return append(e,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: service, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg, RegProtoMin: regWord1},
	)
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func natted() []expr.Any { return ctBits(expr.CtKeySTATUS, ctStatusDNAT) }

func answers() []expr.Any {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: native(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
