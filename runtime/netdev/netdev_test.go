package netdev

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// The first thread is the main goroutine's: a test that changes its own thread's namespaces
// does not change what /proc/self shows.
func init() { runtime.LockOSThread() }

// spaces puts the test's thread into a new network namespace with a veth pair, and makes
// another one. The thread ends with the test.
func spaces(t *testing.T) (there *os.File, h *netlink.Handle) {
	t.Helper()
	need.Root(t, "moves network devices")
	runtime.LockOSThread()
	open := func() *os.File {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	there = open()
	t.Cleanup(func() { there.Close() })
	open().Close()
	h, err := handleAt(there)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one", MTU: 1400, HardwareAddr: mac}, PeerName: "peer"}); err != nil {
		t.Fatal(err)
	}
	one, _ := netlink.LinkByName("one")
	if err := netlink.LinkSetUp(one); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.9.8.7/24", "fd00:9::7/64"} {
		addr, _ := netlink.ParseAddr(a)
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(one, addr); err != nil {
			t.Fatal(err)
		}
	}
	short, _ := netlink.ParseAddr("10.9.8.8/24")
	short.ValidLft, short.PreferedLft = 1000, 1000
	if err := netlink.AddrAdd(one, short); err != nil {
		t.Fatal(err)
	}
	return there, h
}

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 9}

func addresses(t *testing.T, h interface {
	AddrList(netlink.Link, int) ([]netlink.Addr, error)
}, link netlink.Link) string {
	t.Helper()
	list, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range list {
		if a.Scope == unix.RT_SCOPE_UNIVERSE {
			out = append(out, a.IPNet.String())
		}
	}
	return strings.Join(out, " ")
}

func TestMove(t *testing.T) {
	for name, c := range map[string]struct{ to, want string }{
		"same name": {"", "one"}, "new name": {"eth0", "eth0"}, "template": {"eth%d", "eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			there, h := spaces(t)
			m, err := Move(there, map[string]specs.LinuxNetDevice{"one": {Name: c.to}})
			if err != nil {
				t.Fatal(err)
			}
			m.Close()
			m.Close()
			link, err := h.LinkByName(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if a := link.Attrs(); a.Flags&net.FlagUp == 0 || a.MTU != 1400 || a.HardwareAddr.String() != mac.String() {
				t.Errorf("%+v", a)
			}
			if got := addresses(t, h, link); got != "10.9.8.7/24 fd00:9::7/64" {
				t.Errorf("addresses %s", got)
			}
			if _, err := netlink.LinkByName("one"); err == nil {
				t.Error("it is still here")
			}
		})
	}
}

// TestBack: what has been moved is what it was when a later one can't be.
func TestBack(t *testing.T) {
	for name, c := range map[string]struct {
		devices map[string]specs.LinuxNetDevice
		class   error
		text    string
	}{
		"no such device": {map[string]specs.LinuxNetDevice{"one": {Name: "x"}, "two": {}}, errdefs.ErrNotFound, "network device two: not found"},
		"name is taken":  {map[string]specs.LinuxNetDevice{"one": {Name: "x"}, "peer": {Name: "lo"}}, errdefs.ErrAlreadyExists, "network device peer: there is one named lo"},
		"twice the name": {map[string]specs.LinuxNetDevice{"one": {Name: "x"}, "peer": {Name: "x"}}, errdefs.ErrAlreadyExists, "network device peer: there is one named x"},
		"can't be moved": {map[string]specs.LinuxNetDevice{"one": {Name: "x"}, "lo": {Name: "z"}}, unix.EINVAL, "network device lo: move into the container: "},
	} {
		t.Run(name, func(t *testing.T) {
			there, h := spaces(t)
			_, err := Move(there, c.devices)
			if !errors.Is(err, c.class) || !strings.HasPrefix(err.Error(), c.text) {
				t.Errorf("error %v", err)
			}
			one, err := netlink.LinkByName("one")
			if err != nil {
				t.Fatal(err)
			}
			self, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				t.Fatal(err)
			}
			defer self.Close()
			if got := addresses(t, self, one); one.Attrs().Flags&net.FlagUp == 0 || !strings.Contains(got, "10.9.8.7/24") || !strings.Contains(got, "fd00:9::7/64") {
				t.Errorf("%v, addresses %s", one.Attrs().Flags, got)
			}
			links, _ := h.LinkList()
			for _, l := range links {
				if l.Type() == "veth" {
					t.Errorf("%s stayed there", l.Attrs().Name)
				}
			}
		})
	}
}

func TestOwnNamespaceIsRefused(t *testing.T) {
	spaces(t)
	own, _ := os.Open("/proc/thread-self/ns/net")
	defer own.Close()
	if _, err := Move(own, map[string]specs.LinuxNetDevice{"one": {Name: "x"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error %v", err)
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		template, name string
		want           bool
	}{{"eth0", "eth0", true}, {"eth0", "eth1", false}, {"eth%d", "eth12", true}, {"eth%d", "eth", false}, {"eth%d", "ethx", false}, {"%d", "5", true}} {
		if got := matches(c.template, c.name); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
