package container_test

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// The first thread is the main goroutine's: a test that changes its own thread's namespaces
// does not change what /proc/self shows.
func init() { runtime.LockOSThread() }

// vethPair makes one in a network namespace that only this test's thread is in.
func vethPair(t *testing.T) {
	t.Helper()
	need.Root(t, "moves network devices")
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "peer"}); err != nil {
		t.Fatal(err)
	}
	one, _ := netlink.LinkByName("one")
	addr, _ := netlink.ParseAddr("10.9.8.7/24")
	if err := netlink.AddrAdd(one, addr); err != nil {
		t.Fatal(err)
	}
}

func TestNetDevices(t *testing.T) {
	for name, userns := range map[string]bool{"plain": false, "user namespace": true} {
		t.Run(name, func(t *testing.T) {
			vethPair(t)
			b := newBed(t)
			s := b.spec("sh", "-c", "ls /sys/class/net | sort; ip -4 addr show dev eth7 | grep -o 'inet [^ ]*'; ip link show dev eth7 | grep -o '[<,]UP[,>]'; cat /proc/sys/net/ipv4/conf/eth7/forwarding")
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "eth7"}}
			s.Linux.Sysctl = map[string]string{"net.ipv4.conf.eth7.forwarding": "1"}
			if userns {
				b.userns(s)
			}
			if out, _ := b.run(s); out != "eth7\nlo\ninet 10.9.8.7/24\n,UP,\n1\n" && out != "eth7\nlo\ninet 10.9.8.7/24\n,UP>\n1\n" {
				t.Errorf("output %q", out)
			}
		})
	}
}

// TestNetDevicesComeBack: a later step of create fails, in the parent or in the init.
func TestNetDevicesComeBack(t *testing.T) {
	for name, spoil := range map[string]func(s *specs.Spec){
		"no such command": func(s *specs.Spec) { s.Process.Args = []string{"/no/such"} },
		"no such device":  func(s *specs.Spec) { s.Linux.NetDevices["two"] = specs.LinuxNetDevice{} },
		"failed hook": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			vethPair(t)
			b := newBed(t)
			s := b.spec("true")
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "eth7"}}
			spoil(s)
			if _, err := b.create(s, nil); err == nil {
				t.Fatal("it was created")
			}
			one, err := netlink.LinkByName("one")
			if err != nil {
				t.Fatal(err)
			}
			addrs, _ := netlink.AddrList(one, netlink.FAMILY_V4)
			if len(addrs) != 1 || !strings.HasPrefix(addrs[0].String(), "10.9.8.7/24") {
				t.Errorf("addresses %v", addrs)
			}
		})
	}
}

// TestNetDevicesEndWithTheContainer: virtual ones do, and their peers with them.
func TestNetDevicesEndWithTheContainer(t *testing.T) {
	vethPair(t)
	b := newBed(t)
	s := b.spec("sleep", "100")
	s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {}}
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("peer"); err != nil {
		t.Fatal(err)
	}
	b.delete(c)
	if _, err := netlink.LinkByName("one"); err == nil {
		t.Error("the device has come back")
	}
}
