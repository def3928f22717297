package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"gantry/daemon/network/netns"
	"gantry/internal/testutil/need"
)

func TestBridge(t *testing.T) {
	need.Root(t, "makes links")
	name := fmt.Sprintf("gb%d", os.Getpid()%100000)
	addr := netip.MustParsePrefix("10.249.17.1/24")
	t.Cleanup(func() {
		if err := Remove(name); err != nil {
			t.Error(err)
		}
	})
	if got, err := Find(name); err != nil || got.IsValid() {
		t.Fatalf("found %v, %v", got, err)
	}
	for range 2 {
		if err := Ensure(name, addr, 1400); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Find(name); err != nil || got != addr {
		t.Fatalf("found %v, %v", got, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	routed := netip.MustParsePrefix("10.249.18.0/25")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: ipnet(routed)}); err != nil {
		t.Fatal(err)
	}
	near, err := OnLink()
	if err != nil || !slices.Contains(near, addr.Masked()) || !slices.Contains(near, routed) || !slices.Contains(near, netip.MustParsePrefix("127.0.0.0/8")) {
		t.Errorf("on link %v, %v", near, err)
	}
	ns, err := netns.Create(filepath.Join(t.TempDir(), "ns"), Inside)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Remove(ns.Name())
	defer ns.Close()
	p := Port{
		Bridge: name, Host: name + "v", Inside: "eth0", MAC: net.HardwareAddr{2, 0x42, 10, 249, 17, 2},
		Address: netip.MustParsePrefix("10.249.17.2/24"), Gateway: addr.Addr(), MTU: 1400,
	}
	if err := Attach(ns, p); err != nil {
		t.Fatal(err)
	}
	if ports, err := Ports(name); err != nil || !slices.Equal(ports, []string{p.Host}) {
		t.Errorf("ports %v, %v", ports, err)
	}
	if out, err := exec.Command(need.Command(t, "busybox"), "ping", "-c1", "-W2", "10.249.17.2").CombinedOutput(); err != nil {
		t.Errorf("ping: %v: %s", err, out)
	}
	bad := p
	bad.Host, bad.Inside, bad.Gateway = name+"w", "eth1", netip.MustParseAddr("203.0.113.1")
	bad.Address = netip.MustParsePrefix("10.249.17.3/32")
	if err := Attach(ns, bad); err == nil {
		t.Error("a gateway that can't be reached must fail")
	}
	if _, err := netlink.LinkByName(bad.Host); err == nil {
		t.Error("a failed Attach left its pair")
	}
	for range 2 {
		if err := Detach(p.Host); err != nil {
			t.Error(err)
		}
	}
}

func TestForeignBridge(t *testing.T) {
	need.Root(t, "makes links")
	name := fmt.Sprintf("gf%d", os.Getpid()%100000)
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := netlink.LinkAdd(br); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(br)
	first := netip.MustParsePrefix("10.249.18.1/24")
	if err := Ensure(name, first, 1500); err != nil {
		t.Fatal("a bridge without an address takes ours:", err)
	}
	if err := Ensure(name, netip.MustParsePrefix("10.249.19.1/24"), 1500); err == nil {
		t.Error("the address of a bridge that is not ours was changed")
	}
	if err := Remove(name); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName(name); err != nil {
		t.Error("a bridge that is not ours was deleted")
	}
}
