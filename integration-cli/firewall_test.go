package integrationcli

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"gantry/api/thread"
	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// A lab is a network namespace that stands for a host, and one for the world around
// it, joined by a link: what a test does to the firewall is done in the first one only.
type lab struct {
	t           *testing.T
	host, world string // paths
	echo        string // address of a server in the world that tells who asks
}

const (
	labHost  = "192.0.2.1" // RFC 5737: never routed
	labWorld = "192.0.2.2"
)

func newLab(t *testing.T) *lab {
	need.Root(t, "makes network namespaces")
	ip := need.Command(t, "ip")
	base := fmt.Sprintf("gtlab%d", os.Getpid())
	must := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	host, world := base+"h", base+"w"
	for _, n := range []string{host, world} {
		must("netns", "add", n)
		t.Cleanup(func() { must("netns", "delete", n) })
		must("-n", n, "link", "set", "lo", "up")
	}
	must("link", "add", "up0", "netns", host, "type", "veth", "peer", "name", "up0", "netns", world)
	for n, addr := range map[string]string{host: labHost, world: labWorld} {
		must("-n", n, "address", "add", addr+"/24", "dev", "up0")
		must("-n", n, "link", "set", "up0", "up")
	}
	l := &lab{t: t, host: "/run/netns/" + host, world: "/run/netns/" + world}
	l.serve()
	return l
}

// serve tells each client in the world its address.
func (l *lab) serve() {
	var s net.Listener
	err := inside(l.world, func() (err error) {
		s, err = net.Listen("tcp", labWorld+":0")
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.echo = s.Addr().String()
	l.t.Cleanup(func() { s.Close() })
	go func() { // ends when the listener is closed
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			who, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintln(c, who)
			c.Close()
		}
	}()
}

// inside calls f on a thread in a network namespace.
func inside(ns string, f func() error) (err error) {
	thread.Apart(func() {
		var h netns.NsHandle
		if h, err = netns.GetFromPath(ns); err != nil {
			return
		}
		defer h.Close()
		if err = netns.Set(h); err == nil {
			err = f()
		}
	})
	return err
}

// fetch asks an HTTP server from a namespace for /, and returns the end of the answer.
func (l *lab) fetch(from, addr string) (body string, err error) {
	err = inside(from, func() error {
		c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(500 * time.Millisecond)) // a held socket takes the connection, and says nothing
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		raw, err := io.ReadAll(c)
		_, body, _ = strings.Cut(string(raw), "\r\n\r\n")
		return err
	})
	return body, err
}

// command prepares a program on the lab's host.
func (l *lab) command(name string, args ...string) *exec.Cmd {
	l.t.Helper()
	return exec.Command(need.Command(l.t, "nsenter"), append([]string{"--net=" + l.host, need.Command(l.t, name)}, args...)...)
}

// run runs a program on the lab's host that must succeed.
func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := l.command(name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start runs an engine on the lab's host with a web server on port 8080. It relays
// nothing, so that what answers is translated by the firewall's table.
func (l *lab) start(env ...string) *engine.Engine {
	l.t.Helper()
	e := engine.StartIn(l.t, l.host, env, "--userland-proxy=false")
	e.Load(busybox.Archive(l.t, busybox.Config{}, image))
	e.Must("run", "-d", "--name", "web", "-p", "8080:80", image, "httpd", "-f", "-p", "80", "-h", "/www")
	return e
}

// broken says what does not get through: to the published port from the host and from
// the world, and from the container to the world, as the host.
func (l *lab) broken(e *engine.Engine) (out []string) {
	for _, way := range [][2]string{{l.host, "127.0.0.1:8080"}, {l.host, labHost + ":8080"}, {l.world, labHost + ":8080"}} {
		if got, err := l.fetch(way[0], way[1]); got != "gantry\n" {
			out = append(out, fmt.Sprintf("from %s to %s: %q, %v", way[0], way[1], got, err))
		}
	}
	world, port, _ := net.SplitHostPort(l.echo)
	if got := strings.TrimSpace(e.Docker("exec", "web", "nc", "-w", "1", world, port).Stdout); got != labHost {
		out = append(out, fmt.Sprintf("from the container to the world: %q", got))
	}
	return out
}

// opens fails the test unless everything gets through soon: within two seconds, and
// some more where the machine is busy with other tests.
func (l *lab) opens(e *engine.Engine, when string) {
	l.t.Helper()
	bound := time.Duration(scale(2, 15)) * time.Second
	var left []string
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		asked := time.Now()
		if left = l.broken(e); len(left) == 0 {
			return
		}
		if asked.Sub(start) > bound {
			l.t.Errorf("%s, after %v:\n%s", when, bound, strings.Join(left, "\n"))
			return
		}
	}
}

func TestFirewallTakenAway(t *testing.T) {
	l := newLab(t)
	e := l.start()
	l.opens(e, "at first")
	table := leak.Instance(e.Dir)
	for _, args := range [][]string{
		{"flush", "ruleset"},
		{"delete", "table", "ip", table},
		{"flush", "chain", "ip", table, "postrouting"},
		{"delete", "element", "ip", table, "anyports", "{ tcp . 8080 }"},
	} {
		l.run("nft", args...)
		l.opens(e, "after nft "+strings.Join(args, " "))
	}
	e.Must("run", "-d", "--name", "more", "-p", "8081:80", image, "sleep", "1000")
	l.run("nft", "flush", "ruleset")
	e.Must("rm", "-f", "more")
	l.opens(e, "after a container was removed")
	if rules := l.run("nft", "list", "table", "ip", table); strings.Contains(rules, "8081") {
		t.Errorf("the port of a removed container is back:\n%s", rules)
	}
	e.Kill()
	l.run("nft", "flush", "ruleset")
	e.Launch()
	l.opens(e, "after the daemon was away")
	e.Must("rm", "-f", "web")
	e.Terminate()
	if rules := l.run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("an idle engine left\n%s", rules)
	}
}

func TestFirewallWarnings(t *testing.T) {
	l := newLab(t)
	e := engine.StartIn(t, l.host, nil)
	warns := func(text string) bool {
		return strings.Contains(e.Must("info", "-f", "{{range .Warnings}}{{println .}}{{end}}"), text)
	}
	const closed, foreign = "has no rule for this bridge", "chain forward of nft table inet foreign"
	if warns(closed) {
		t.Error("warns of an open firewall")
	}
	l.run("nft", "add table inet foreign; add chain inet foreign forward { type filter hook forward priority 0; policy drop; }")
	eventually(t, "info warns of the table", func() bool { return warns(foreign) && warns("on "+e.Bridge+" ") })
	l.run("nft", "add rule inet foreign forward iifname { lo, "+e.Bridge+" } accept; add chain inet foreign any")
	eventually(t, "info is content with a rule for the bridge", func() bool { return !warns(closed) })
	l.run("nft", "add table inet last; add chain inet last f { type filter hook forward priority 0; }; add rule inet last f reject; add chain inet last any")
	eventually(t, "info warns of a last rule that rejects", func() bool { return warns("chain f of nft table inet last") })
	l.run("nft", "flush", "ruleset")
	eventually(t, "info is content again", func() bool { return !warns(closed) })
}

func TestLegacyIptables(t *testing.T) {
	l := newLab(t)
	if out, err := l.command("iptables-legacy", "-P", "FORWARD", "DROP").CombinedOutput(); err != nil {
		t.Skipf("needs legacy iptables in the kernel: %s", out)
	}
	e := engine.StartIn(t, l.host, nil)
	warns := func() bool {
		return strings.Contains(e.Must("info", "-f", "{{.Warnings}}"), "iptables-legacy -I FORWARD -i "+e.Bridge)
	}
	if !warns() {
		t.Error("info does not warn of the policy of FORWARD")
	}
	l.run("iptables-legacy", "-I", "FORWARD", "-i", e.Bridge, "-j", "ACCEPT")
	if warns() {
		t.Error("info warns after its advice was followed")
	}
	l.run("iptables-legacy", "-F", "FORWARD")
	if !warns() {
		t.Error("info does not warn again")
	}
	l.run("iptables-legacy", "-P", "FORWARD", "ACCEPT")
	if warns() {
		t.Error("info warns of an open firewall")
	}
}
