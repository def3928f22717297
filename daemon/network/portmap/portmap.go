// Package portmap reserves host ports. A reservation is a bound socket, so that no
// other process can take the port; for TCP it listens too, which keeps even those
// out that bind with SO_REUSEADDR. Who holds the sockets may relay what reaches
// them: all that the firewall's translation does not catch, ::1 for one.
package portmap

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Request asks for one container port to be published.
type Request struct {
	Proto string         // tcp, udp or sctp
	To    netip.AddrPort // in the container
	Hosts []netip.Addr   // addresses to publish on, all with the same port
	First uint16         // host ports to try in turn, 0 for an ephemeral one
	Last  uint16
}

// Binding is one reserved address and port.
type Binding struct {
	Proto string         `json:"proto"`
	To    netip.AddrPort `json:"to"`
	Host  netip.AddrPort `json:"host"`
	// File is the bound socket, nil when the kernel lacks the protocol or the
	// reservation was taken up from a record.
	File *os.File `json:"-"`
}

// ErrAllocated says that another container has the port; its text is dockerd's.
type ErrAllocated struct{ Host netip.AddrPort }

func (e ErrAllocated) Error() string {
	return fmt.Sprintf("Bind for %s failed: port is already allocated", e.Host)
}

// errAllTaken says that containers have every port of a range; its text is dockerd's.
var errAllTaken = errors.New("all ports are allocated")

// Allocator knows the ports of this engine. Safe for concurrent use.
type Allocator struct {
	first, last uint16 // ephemeral range

	mu    sync.Mutex
	taken map[key]bool // guarded by mu
	next  uint16       // guarded by mu; where the search for an ephemeral port goes on
}

type key struct {
	proto string
	host  netip.AddrPort
}

// New returns an allocator over the kernel's range of ephemeral ports.
func New() *Allocator {
	first, last := ephemeral()
	return &Allocator{first: first, last: last, next: first, taken: map[key]bool{}}
}

// ephemeral is dockerd's range: the kernel's, and its default where that can't be read.
func ephemeral() (first, last uint16) {
	raw, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if f := strings.Fields(string(raw)); len(f) == 2 {
		a, err1 := strconv.ParseUint(f[0], 10, 16)
		b, err2 := strconv.ParseUint(f[1], 10, 16)
		if err1 == nil && err2 == nil && a > 0 && a <= b {
			return uint16(a), uint16(b)
		}
	}
	return 49153, 65535
}

// Reserve binds every address of r on one port. On error nothing is held.
func (a *Allocator) Reserve(r Request) ([]Binding, error) {
	if r.First == 0 {
		return a.reserveAny(r)
	}
	var failed error
	for port := int(r.First); port <= int(max(r.First, r.Last)); port++ {
		got, err := a.reserve(r, uint16(port))
		if err == nil {
			return got, nil
		}
		if failed == nil || !errors.As(err, new(ErrAllocated)) {
			failed = err
		}
	}
	if r.Last > r.First && errors.As(failed, new(ErrAllocated)) {
		return nil, errAllTaken
	}
	return nil, failed
}

func (a *Allocator) reserveAny(r Request) ([]Binding, error) {
	var last error
	for range int(a.last) - int(a.first) + 1 {
		a.mu.Lock()
		port := a.next
		if a.next++; a.next > a.last || a.next == 0 {
			a.next = a.first
		}
		a.mu.Unlock()
		got, err := a.reserve(r, port)
		if err == nil {
			return got, nil
		}
		if last = err; !errors.Is(err, unix.EADDRINUSE) && !errors.As(err, new(ErrAllocated)) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %w", errAllTaken, last)
}

func (a *Allocator) reserve(r Request, port uint16) (got []Binding, err error) {
	for _, host := range r.Hosts {
		b := Binding{Proto: r.Proto, To: r.To, Host: netip.AddrPortFrom(host, port)}
		if err = a.claim(b); err == nil {
			if b.File, err = bind(b); err != nil {
				a.unclaim(b)
			}
		}
		if err != nil {
			a.Release(got)
			return nil, err
		}
		got = append(got, b)
	}
	return got, nil
}

// Adopt marks bindings as taken that somebody else holds the sockets of.
func (a *Allocator) Adopt(bs []Binding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range bs {
		a.taken[key{b.Proto, b.Host}] = true
	}
}

// Release gives bindings back and closes their sockets here.
func (a *Allocator) Release(bs []Binding) {
	for _, b := range bs {
		if b.File != nil {
			b.File.Close()
		}
		a.unclaim(b)
	}
}

// claim fails when this engine has given the port away, on this address or on all.
func (a *Allocator) claim(b Binding) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.taken {
		if k.proto == b.Proto && k.host.Port() == b.Host.Port() && covers(k.host.Addr(), b.Host.Addr()) {
			return ErrAllocated{b.Host}
		}
	}
	a.taken[key{b.Proto, b.Host}] = true
	return nil
}

func covers(x, y netip.Addr) bool {
	return x == y || x.Is4() == y.Is4() && (x.IsUnspecified() || y.IsUnspecified())
}

func (a *Allocator) unclaim(b Binding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.taken, key{b.Proto, b.Host})
}

// bind makes the socket of b.
func bind(b Binding) (*os.File, error) {
	kind, proto := unix.SOCK_STREAM, unix.IPPROTO_TCP
	switch b.Proto {
	case "udp":
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case "sctp":
		proto = unix.IPPROTO_SCTP
	}
	family := unix.AF_INET
	if b.Host.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if b.Proto == "sctp" && slices.Contains([]error{unix.EPROTONOSUPPORT, unix.ESOCKTNOSUPPORT}, err) {
		return nil, nil
	}
	if err == nil {
		if err = prepare(fd, family, kind, b.Host); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to bind host port %s:%s/%s: %w", b.Host, b.To, b.Proto, err)
	}
	return os.NewFile(uintptr(fd), b.Proto+" "+b.Host.String()), nil
}

func prepare(fd, family, kind int, at netip.AddrPort) error {
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: v4(at.Addr())}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if kind == unix.SOCK_DGRAM {
		return unix.Bind(fd, sa)
	}
	// A connection that is still closing on the port is no hindrance.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	return unix.Listen(fd, unix.SOMAXCONN)
}

func v4(a netip.Addr) (out [4]byte) {
	if a.Is4() {
		out = a.As4()
	}
	return out
}
