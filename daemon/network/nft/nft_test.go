package nft

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
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
