// Package ipam hands out networks from address pools and addresses from networks.
// It is pure: no lock, no disk; its owner guards it and remembers what is in use.
package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// Pool cuts Base into networks of prefix length Size.
type Pool struct {
	Base netip.Prefix
	Size int
}

// DefaultPools are dockerd's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20s.
func DefaultPools() []Pool {
	var pools []Pool
	for b := byte(17); b <= 31; b++ {
		pools = append(pools, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, b}), 16), 16})
	}
	return append(pools, Pool{netip.MustParsePrefix("192.168.0.0/16"), 20})
}

// ErrNoNetwork has dockerd's text.
var ErrNoNetwork = errors.New("all predefined address pools have been fully subnetted")

// NextNetwork returns the first network of the pools that overlaps none in use.
func NextNetwork(pools []Pool, used []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		for at := netip.PrefixFrom(p.Base.Masked().Addr(), p.Size); at.IsValid() && p.Base.Contains(at.Addr()); at = after(at) {
			if !overlaps(at, used) {
				return at, nil
			}
		}
	}
	return netip.Prefix{}, ErrNoNetwork
}

func overlaps(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if u.Overlaps(p) {
			return true
		}
	}
	return false
}

// after returns the network that follows p, or the zero Prefix at the end of the space.
func after(p netip.Prefix) netip.Prefix {
	last := Last(p)
	if next := last.Next(); next.IsValid() {
		return netip.PrefixFrom(next, p.Bits())
	}
	return netip.Prefix{}
}

// Last returns the highest address of p, the broadcast address of an IPv4 network.
func Last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// Space is the addresses of one network. Not safe for concurrent use.
type Space struct {
	net   netip.Prefix
	used  map[netip.Addr]bool
	first netip.Addr // none below it is free
}

// NewSpace returns the space of net with these addresses taken, besides the network's
// own and the broadcast address.
func NewSpace(net netip.Prefix, taken ...netip.Addr) *Space {
	net = net.Masked()
	s := &Space{net: net, used: map[netip.Addr]bool{}, first: net.Addr()}
	if net.Addr().Is4() && net.Bits() < 31 {
		s.used[net.Addr()], s.used[Last(net)] = true, true
	}
	for _, a := range taken {
		s.used[a] = true
	}
	return s
}

// Take takes the lowest free address.
func (s *Space) Take() (netip.Addr, error) {
	for a := s.first; s.net.Contains(a); a = a.Next() {
		if !s.used[a] {
			s.used[a], s.first = true, a.Next()
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("no available IPv4 addresses on this network's address pools: " + s.net.String())
}

// TakeThis takes one address.
func (s *Space) TakeThis(a netip.Addr) error {
	if !s.net.Contains(a) {
		return fmt.Errorf("no configured subnet or ip-range contain the IP address %s", a)
	}
	if s.used[a] {
		return errors.New("Address already in use") // dockerd's words
	}
	s.used[a] = true
	return nil
}

// Release gives an address back; one that is free already is fine.
func (s *Space) Release(a netip.Addr) {
	if !s.used[a] {
		return
	}
	delete(s.used, a)
	if a.Less(s.first) {
		s.first = a
	}
}
