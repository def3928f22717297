package nft

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

func list(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command(need.Command(t, "nft"), "list", "table", "ip", name).CombinedOutput()
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// TestTable reads back with nft what was written by netlink.
func TestTable(t *testing.T) {
	need.Root(t, "writes nftables")
	name := fmt.Sprintf("gantry-test-%d", os.Getpid())
	table := New(name)
	t.Cleanup(func() {
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
		if s := list(t, name); s != "" {
			t.Errorf("the table is still there: %s", s)
		}
	})
	if err := table.AddPorts([]Port{{}}); err == nil {
		t.Error("a port before Reset must fail")
	}
	networks := []Network{{Bridge: "gtx0", Subnet: netip.MustParsePrefix("10.250.3.1/24"), Masquerade: true}}
	anyHost := Port{unix.IPPROTO_TCP, netip.IPv4Unspecified(), 8080, netip.MustParseAddrPort("10.250.3.2:80")}
	one := Port{unix.IPPROTO_UDP, netip.MustParseAddr("127.0.0.1"), 5353, netip.MustParseAddrPort("10.250.3.2:53")}
	if err := table.Reset(networks, []Port{anyHost}); err != nil {
		t.Fatal(err)
	}
	if err := table.AddPorts([]Port{one}); err != nil {
		t.Fatal(err)
	}
	got := list(t, name)
	for _, want := range []string{
		`elements = { tcp . 8080 : 10.250.3.2 . 80 }`,
		`elements = { 127.0.0.1 . udp . 5353 : 10.250.3.2 . 53 }`,
		`elements = { "gtx0" }`, `elements = { "gtx0" . "gtx0" }`,
		`elements = { 10.250.3.0/24 }`,
		`iifname != "lo" @nh,128,8 0x7f drop`,
		`fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @ports`,
		`fib daddr type local dnat ip to meta l4proto . th dport map @anyports`,
		`ip saddr @masq oifname != @bridges masquerade`,
		`oifname @bridges ct status dnat ip saddr @subnets masquerade`,
		`oifname @bridges drop`,
	} {
		if !strings.Contains(got, want) && !strings.Contains(got, strings.ReplaceAll(want, "@nh,128,8 0x7f", "ip daddr 127.0.0.0/8")) {
			t.Errorf("missing %q in\n%s", want, got)
		}
	}
	if err := table.Reset(networks, []Port{one}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, name); strings.Contains(got, "8080") || !strings.Contains(got, "5353") || strings.Count(got, "oifname @bridges drop") != 1 {
		t.Errorf("after the second Reset:\n%s", got)
	}
	if err := table.DeletePorts([]Port{anyHost, one}); err == nil {
		t.Error("deleting a port that is not there must fail")
	}
	if !strings.Contains(list(t, name), "5353") {
		t.Error("a failed transaction must change nothing")
	}
	if err := table.DeletePorts([]Port{one}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(list(t, name), "5353") {
		t.Error("the port is still there")
	}
}

// TestRepair changes the table behind its back, in every way that nft has.
func TestRepair(t *testing.T) {
	need.Root(t, "writes nftables")
	nft := need.Command(t, "nft")
	name := fmt.Sprintf("gantry-test-repair-%d", os.Getpid())
	table := New(name)
	t.Cleanup(func() {
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
	})
	whole := func(when string) {
		t.Helper()
		if again, err := table.Repair(); err != nil || again {
			t.Fatalf("%s: repaired %t, %v", when, again, err)
		}
	}
	whole("before it is made")
	var ports []Port
	for i := range 2*perMessage + 10 {
		ports = append(ports, Port{unix.IPPROTO_TCP, netip.IPv4Unspecified(), uint16(10000 + i), netip.MustParseAddrPort("10.250.3.2:80")})
	}
	networks := []Network{
		{Bridge: "gtx0", Subnet: netip.MustParsePrefix("10.250.3.1/24"), Masquerade: true},
		{Bridge: "gtx1", Subnet: netip.MustParsePrefix("10.250.4.1/24")},
	}
	if err := table.Reset(networks, ports); err != nil {
		t.Fatal(err)
	}
	one := Port{unix.IPPROTO_UDP, netip.MustParseAddr("127.0.0.1"), 53, netip.MustParseAddrPort("10.250.3.2:53")}
	if err := table.AddPorts([]Port{one}); err != nil {
		t.Fatal(err)
	}
	if err := table.DeletePorts(ports[:7]); err != nil {
		t.Fatal(err)
	}
	whole("as it was left")
	words := func() []string { // whatever order the kernel's hash tables have
		all := strings.Fields(strings.ReplaceAll(list(t, name), ",", ""))
		slices.Sort(all)
		return all
	}
	before := words()
	for _, args := range []string{
		"delete table ip T",
		"flush table ip T",
		"flush chain ip T postrouting",
		"delete element ip T anyports { tcp . 10007 }",
		"add element ip T anyports { tcp . 9 : 10.250.3.2 . 9 }",
		"delete element ip T ports { 127.0.0.1 . udp . 53 }",
		"delete element ip T subnets { 10.250.4.0/24 }",
		"delete element ip T bridges { gtx1 }",
		"insert rule ip T forward drop",
		"add chain ip T more",
		"chain ip T forward { policy drop; }",
		"add table ip T { flags dormant; }",
	} {
		if out, err := exec.Command(nft, strings.ReplaceAll(args, "T", name)).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", args, err, out)
		}
		if again, err := table.Repair(); err != nil || !again {
			t.Errorf("after %s: repaired %t, %v", args, again, err)
		}
		if !slices.Equal(words(), before) {
			t.Errorf("after %s:\n%.3000s", args, list(t, name))
		}
		whole("after the repair of " + args)
	}
}

// TestAlterBehindItsBack: changes to a table that has gone make it anew.
func TestAlterBehindItsBack(t *testing.T) {
	need.Root(t, "writes nftables")
	name := fmt.Sprintf("gantry-test-alter-%d", os.Getpid())
	table := New(name)
	t.Cleanup(func() { table.Remove() })
	old := Port{unix.IPPROTO_TCP, netip.IPv4Unspecified(), 8080, netip.MustParseAddrPort("10.250.3.2:80")}
	fresh := Port{unix.IPPROTO_TCP, netip.IPv4Unspecified(), 8081, netip.MustParseAddrPort("10.250.3.3:80")}
	if err := table.Reset(nil, []Port{old}); err != nil {
		t.Fatal(err)
	}
	drop := func() {
		t.Helper()
		if out, err := exec.Command(need.Command(t, "nft"), "delete", "table", "ip", name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	drop()
	if err := table.AddPorts([]Port{fresh}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, name); !strings.Contains(got, "8080") || !strings.Contains(got, "8081") {
		t.Errorf("after a port was added:\n%s", got)
	}
	drop()
	if err := table.DeletePorts([]Port{old}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, name); strings.Contains(got, "8080") || !strings.Contains(got, "8081") {
		t.Errorf("after a port was deleted:\n%s", got)
	}
	if err := table.DeletePorts([]Port{old}); err == nil {
		t.Error("a port that is not there can be deleted")
	}
}
