package ipam

import (
	"errors"
	"net/netip"
	"testing"
)

func TestNextNetwork(t *testing.T) {
	prefixes := func(in ...string) (out []netip.Prefix) {
		for _, s := range in {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	var all []string
	for _, p := range DefaultPools() {
		if p.Size == 16 {
			all = append(all, p.Base.String())
		}
	}
	for _, tc := range []struct {
		name string
		used []netip.Prefix
		want string
	}{
		{"first", nil, "172.17.0.0/16"},
		{"a host route inside it", prefixes("172.17.42.0/24"), "172.18.0.0/16"},
		{"a route around it", prefixes("172.16.0.0/12"), "192.168.0.0/20"},
		{"cut to size", append(prefixes(all...), prefixes("192.168.0.0/20")...), "192.168.16.0/20"},
		{"the default route is no use", prefixes("10.0.0.0/8"), "172.17.0.0/16"},
	} {
		got, err := NextNetwork(DefaultPools(), tc.used)
		if err != nil || got.String() != tc.want {
			t.Errorf("%s: %v, %v, want %s", tc.name, got, err, tc.want)
		}
	}
	if _, err := NextNetwork(DefaultPools(), prefixes("0.0.0.0/1", "128.0.0.0/1")); !errors.Is(err, ErrNoNetwork) {
		t.Error(err)
	}
	end := []Pool{{netip.MustParsePrefix("255.255.0.0/16"), 17}}
	if _, err := NextNetwork(end, prefixes("255.255.0.0/16")); !errors.Is(err, ErrNoNetwork) {
		t.Error("the end of the address space:", err)
	}
}

func TestSpace(t *testing.T) {
	s := NewSpace(netip.MustParsePrefix("10.0.0.0/29"), netip.MustParseAddr("10.0.0.1"))
	take := func(want string) {
		t.Helper()
		got, err := s.Take()
		if err != nil || got.String() != want {
			t.Errorf("took %v, %v, want %s", got, err, want)
		}
	}
	take("10.0.0.2")
	take("10.0.0.3")
	if err := s.TakeThis(netip.MustParseAddr("10.0.0.4")); err != nil {
		t.Error(err)
	}
	if err := s.TakeThis(netip.MustParseAddr("10.0.0.4")); err == nil {
		t.Error("taken twice")
	}
	if err := s.TakeThis(netip.MustParseAddr("10.0.1.4")); err == nil {
		t.Error("taken outside")
	}
	take("10.0.0.5")
	s.Release(netip.MustParseAddr("10.0.0.3"))
	take("10.0.0.3")
	take("10.0.0.6")
	if a, err := s.Take(); err == nil {
		t.Errorf("took %v, the broadcast address", a)
	}
	s.Release(netip.MustParseAddr("10.0.0.2"))
	s.Release(netip.MustParseAddr("10.0.0.2"))
	take("10.0.0.2")
}

func TestLast(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.0/24": "10.0.0.255", "10.1.2.3/32": "10.1.2.3", "10.0.0.0/9": "10.127.255.255", "fd00::/64": "fd00::ffff:ffff:ffff:ffff"} {
		if got := Last(netip.MustParsePrefix(in)); got.String() != want {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
}
