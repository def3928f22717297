package portmap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	any4 = netip.IPv4Unspecified()
	any6 = netip.IPv6Unspecified()
	lo   = netip.MustParseAddr("127.0.0.1")
)

func TestReserve(t *testing.T) {
	a := New()
	both := Request{Proto: "tcp", Hosts: []netip.Addr{any4, any6}}
	got, err := a.Reserve(both)
	if err != nil {
		t.Fatal(err)
	}
	port := got[0].Host.Port()
	if len(got) != 2 || port == 0 || got[1].Host.Port() != port {
		t.Fatalf("got %v", got)
	}
	again := Request{Proto: "tcp", Hosts: []netip.Addr{lo}, First: port}
	var taken ErrAllocated
	if _, err := a.Reserve(again); !errors.As(err, &taken) || err.Error() != fmt.Sprintf("Bind for 127.0.0.1:%d failed: port is already allocated", port) {
		t.Errorf("the same engine: %v", err)
	}
	if _, err := New().Reserve(again); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("another engine: %v", err)
	}
	if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		l.Close()
		t.Error("another process could listen")
	}
	udp, err := a.Reserve(Request{Proto: "udp", Hosts: []netip.Addr{lo}, First: port})
	if err != nil {
		t.Fatalf("another protocol: %v", err)
	}
	a.Release(udp)
	a.Adopt([]Binding{{Proto: "tcp", Host: netip.AddrPortFrom(lo, port+1)}})
	if _, err := a.Reserve(Request{Proto: "tcp", Hosts: []netip.Addr{lo}, First: port, Last: port + 1}); err == nil || err.Error() != "all ports are allocated" {
		t.Errorf("a range that is taken: %v", err)
	}
	a.Release(got)
	got, err = a.Reserve(again)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	a.Release(got)
}

func TestReserveIsAllOrNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	a := New()
	r := Request{Proto: "tcp", Hosts: []netip.Addr{any6, lo}, First: port}
	if _, err := a.Reserve(r); !errors.Is(err, unix.EADDRINUSE) {
		t.Fatal(err)
	}
	if len(a.taken) != 0 {
		t.Errorf("still taken: %v", a.taken)
	}
	six, err := net.Listen("tcp6", fmt.Sprintf("[::]:%d", port))
	if err != nil {
		t.Fatalf("the first address was not given back: %v", err)
	}
	six.Close()
	r = Request{Proto: "tcp", Hosts: []netip.Addr{lo}, First: port, Last: port + 20}
	got, err := a.Reserve(r)
	if err != nil {
		t.Fatalf("a range goes past a taken port: %v", err)
	}
	a.Release(got)
}

func TestAdopt(t *testing.T) {
	a := New()
	a.Adopt([]Binding{{Proto: "tcp", Host: netip.AddrPortFrom(any4, 9)}})
	if _, err := a.Reserve(Request{Proto: "tcp", Hosts: []netip.Addr{lo}, First: 9}); !errors.As(err, new(ErrAllocated)) {
		t.Error(err)
	}
}
