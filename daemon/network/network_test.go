package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/vishvananda/netlink"
	"go.etcd.io/bbolt"

	"gantry/api/errdefs"
	"gantry/internal/testutil/need"
)

type recorded struct{ actions []string }

func (r *recorded) Publish(typ events.Type, a events.Action, actor events.Actor) {
	r.actions = append(r.actions, fmt.Sprintf("%s %s %s", typ, a, actor.Attributes["name"]))
}

type fixture struct {
	cfg     Config
	db, run *bbolt.DB
	events  recorded
}

// newFixture has a bridge and a table of its own, both gone at the end of the test.
func newFixture(t *testing.T, subnet int) *fixture {
	need.Root(t, "makes links and nftables")
	dir := t.TempDir()
	open := func(name string) *bbolt.DB {
		db, err := bbolt.Open(filepath.Join(dir, name), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	f := &fixture{db: open("a.db"), run: open("b.db")}
	f.cfg = Config{
		Instance: fmt.Sprintf("gantry-nettest-%d-%d", os.Getpid(), subnet), Bridge: fmt.Sprintf("gn%d%d", os.Getpid()%10000, subnet),
		Address: netip.MustParsePrefix(fmt.Sprintf("10.248.%d.1/24", subnet)), MTU: 1500,
		Masquerade: true, Firewall: true, Relay: true, Dir: filepath.Join(dir, "netns"),
	}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(f.cfg.Bridge); err == nil {
			netlink.LinkDel(l)
		}
	})
	return f
}

func (f *fixture) service(t *testing.T) *Service {
	t.Helper()
	s, err := New(f.cfg, f.db, f.run, &f.events, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		s.table.Remove()
	})
	return s
}

func request(t *testing.T, id string) Request {
	return Request{ContainerID: id, Name: "web", Hostname: "web", Dir: t.TempDir(), Mode: "default"}
}

func TestPublishedPort(t *testing.T) {
	f := newFixture(t, 1)
	s := f.service(t)
	ctx := context.Background()
	r := request(t, "c1")
	r.Exposed = nat.PortSet{"80/tcp": {}, "90/tcp": {}}
	r.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}
	sb, err := s.Allocate(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release(ctx, "c1")
	if len(sb.Ports["80/tcp"]) != 1 || sb.Ports["90/tcp"] != nil {
		t.Fatalf("ports %v", sb.Ports)
	}
	ep := sb.Networks["bridge"]
	if ep.IPAddress != "10.248.1.2" || ep.MacAddress != "02:42:0a:f8:01:02" || ep.Gateway != "10.248.1.1" {
		t.Errorf("endpoint %+v", ep)
	}
	if hosts, _ := os.ReadFile(sb.HostsPath); !strings.Contains(string(hosts), "10.248.1.2\tweb\n") {
		t.Errorf("hosts %q", hosts)
	}
	server := exec.Command(need.Command(t, "nsenter"), "--net="+sb.NetnsPath, need.Command(t, "busybox"), "nc", "-l", "-p", "80", "-e", need.Command(t, "busybox"), "echo", "hello")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Process.Kill(); server.Wait() }()
	var got []byte
	for range 100 { // until nc listens
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+sb.Ports["80/tcp"][0].HostPort, time.Second)
		if err == nil {
			got, _ = io.ReadAll(c)
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if string(got) != "hello\n" {
		t.Errorf("through the published port: %q", got)
	}
	sb.CloseHeld()
	again := request(t, "c2")
	again.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: sb.Ports["80/tcp"][0].HostPort}}}
	if _, err := s.Allocate(ctx, again); err == nil || !strings.HasSuffix(err.Error(), "failed: port is already allocated") ||
		!strings.HasPrefix(err.Error(), "failed to set up container networking: driver failed programming external connectivity on endpoint web (") {
		t.Errorf("a taken port: %v", err)
	}
	if l, _ := os.ReadDir(f.cfg.Dir); len(l) != 1 {
		t.Errorf("the failed one left %v", l)
	}
	if err := s.Release(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	sb, err = s.Allocate(ctx, request(t, "c1")) // waits for the link of the run before
	if err != nil {
		t.Fatal(err)
	}
	sb.CloseHeld()
	if got := sb.Networks["bridge"].IPAddress; got != "10.248.1.3" && got != "10.248.1.2" {
		t.Errorf("address %s", got)
	}
	if err := s.Release(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, s)
	const each = "network connect bridge|network disconnect bridge"
	if got := strings.Join(f.events.actions, "|"); got != each+"|"+each {
		t.Errorf("events %s", got)
	}
}

// checkEmpty says what is left when every container has gone.
func checkEmpty(t *testing.T, s *Service) {
	t.Helper()
	s.work.Wait()
	if l, _ := os.ReadDir(s.cfg.Dir); len(l) != 0 {
		t.Errorf("namespaces left: %v", l)
	}
	br, err := netlink.LinkByName(s.cfg.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	links, _ := netlink.LinkList()
	for _, l := range links {
		if l.Attrs().MasterIndex == br.Attrs().Index {
			t.Errorf("link left: %s", l.Attrs().Name)
		}
	}
	out, _ := exec.Command(need.Command(t, "nft"), "list", "table", "ip", s.cfg.Instance).Output()
	if strings.Contains(string(out), " : 10.248.") {
		t.Errorf("elements left:\n%s", out)
	}
	if a, err := s.space.Take(); err != nil || a != s.networks["bridge"].Address.Addr().Next() {
		t.Errorf("the first address is %v, %v", a, err)
	} else {
		s.space.Release(a)
	}
}

// TestRestart takes up what an earlier daemon left: the live stays, the rest goes.
func TestRestart(t *testing.T) {
	f := newFixture(t, 2)
	ctx := context.Background()
	s := f.service(t)
	ports := map[string]string{}
	for _, id := range []string{"live", "dead"} {
		r := request(t, id)
		r.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}
		sb, err := s.Allocate(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		sb.CloseHeld()
		ports[id] = sb.Ports["80/tcp"][0].HostPort
	}
	id := s.networks["bridge"].ID
	s = f.service(t)
	if s.networks["bridge"].ID != id {
		t.Error("the network's id has changed")
	}
	if err := s.Restore(ctx, map[string]bool{"live": true}); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(need.Command(t, "nft"), "list", "table", "ip", s.cfg.Instance).Output()
	if !strings.Contains(string(out), ". "+ports["live"]+" :") || strings.Contains(string(out), ". "+ports["dead"]+" :") {
		t.Errorf("ports after the restart:\n%s", out)
	}
	taken := request(t, "other")
	taken.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: ports["live"]}}}
	if _, err := s.Allocate(ctx, taken); err == nil {
		t.Error("the live container's port was given away")
	}
	if err := s.awaitLeaving(ctx, "dead"); err != nil { // its link goes in the background
		t.Fatal(err)
	}
	if d, err := s.Inspect(ctx, "bridge", networktypes.InspectOptions{}); err != nil || len(d.Containers) != 1 || d.Containers["live"].IPv4Address == "" {
		t.Errorf("inspect %+v, %v", d.Containers, err)
	}
	if err := s.Release(ctx, "live"); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, s)
}

func TestFirewallChangedBehindOurBack(t *testing.T) {
	f := newFixture(t, 3)
	ctx := context.Background()
	s := f.service(t)
	r := request(t, "c")
	r.PortBindings = nat.PortMap{"80/tcp": nil}
	sb, err := s.Allocate(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	sb.CloseHeld()
	if out, err := exec.Command(need.Command(t, "nft"), "delete", "table", "ip", f.cfg.Instance).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := s.Release(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, s)
}

func TestModes(t *testing.T) {
	f := newFixture(t, 4)
	ctx := context.Background()
	s := f.service(t)
	for mode, linked := range map[containertypes.NetworkMode]int{"none": 1, "bridge": 2, "host": 0} {
		r := request(t, "c")
		r.Mode = mode
		sb, err := s.Allocate(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if (sb.NetnsPath == "") != (mode == "host") || sb.Networks[string(mode)] == nil || sb.Networks[string(mode)].NetworkID == "" {
			t.Errorf("%s: %+v", mode, sb)
		}
		if linked > 0 {
			out, err := exec.Command(need.Command(t, "nsenter"), "--net="+sb.NetnsPath, need.Command(t, "busybox"), "ip", "-o", "link").Output()
			if n := strings.Count(string(out), ",UP"); err != nil || n != linked {
				t.Errorf("%s has %d links up, want %d: %v\n%s", mode, n, linked, err, out)
			}
		}
		if err := s.Release(ctx, "c"); err != nil {
			t.Error(err)
		}
	}
	for _, tc := range []struct {
		r    Request
		want string
	}{
		{Request{Mode: "nope"}, "failed to set up container networking: network nope not found"},
		{Request{Mode: "bridge", Endpoints: map[string]*networktypes.EndpointSettings{"bridge": {IPAMConfig: &networktypes.EndpointIPAMConfig{IPv4Address: "10.0.0.5"}}}},
			"failed to set up container networking: user specified IP address is supported on user defined networks only"},
	} {
		tc.r.ContainerID, tc.r.Dir = "c", t.TempDir()
		if _, err := s.Allocate(ctx, tc.r); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	for name, want := range map[string]string{
		"default": "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
		"host":    "invalid config for network host: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
		"mine":    "<nil>",
	} {
		err := s.Validate(Request{Mode: "bridge", Endpoints: map[string]*networktypes.EndpointSettings{name: {IPAMConfig: &networktypes.EndpointIPAMConfig{IPv4Address: "10.0.0.5"}}}})
		if fmt.Sprint(err) != want {
			t.Errorf("an address in %s: %v", name, err)
		}
	}
	checkEmpty(t, s)
	list, err := s.List(ctx, filters.NewArgs())
	if err != nil || len(list) != 3 {
		t.Errorf("list %v, %v", list, err)
	}
	if list, _ = s.List(ctx, filters.NewArgs(filters.Arg("driver", "null"))); len(list) != 1 || list[0].Name != "none" {
		t.Errorf("filtered %v", list)
	}
	if err := s.Remove(ctx, "host"); !errdefs.IsNotFound(err) && err.Error() != "host is a pre-defined network and cannot be removed" {
		t.Error(err)
	}
}

func TestHostPorts(t *testing.T) {
	for in, want := range map[string][2]uint16{"": {}, "80": {80, 80}, "80-90": {80, 90}} {
		if a, b, err := hostPorts(in); err != nil || [2]uint16{a, b} != want {
			t.Errorf("%q: %d %d %v", in, a, b, err)
		}
	}
	for _, in := range []string{"x", "-1", "70000", "90-80", "80-"} {
		if _, _, err := hostPorts(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

// TestNoBridge: with the default network switched off a container that asks for it has
// loopback only.
func TestNoBridge(t *testing.T) {
	f := newFixture(t, 14)
	f.cfg.Bridge, f.cfg.Address = "none", netip.Prefix{}
	s := f.service(t)
	for _, mode := range []containertypes.NetworkMode{"", "default", "bridge"} {
		r := request(t, "c")
		r.Mode = mode
		r.Endpoints = map[string]*networktypes.EndpointSettings{"bridge": {}}
		sb, err := s.Allocate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(sb.Ports) != 0 || len(sb.Held) != 0 || sb.Networks["none"] == nil {
			t.Errorf("%q: %+v", mode, sb)
		}
		if err := s.Release(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	}
}
