package integrationcli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// get fetches http://addr/, retrying while the server starts.
func get(addr string) (string, error) {
	var err error
	for range 100 {
		c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		var r *http.Response
		if r, err = c.Get("http://" + addr + "/"); err == nil {
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			return string(b), err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", err
}

func port(t *testing.T, e *engine.Engine, name, private string) string {
	t.Helper()
	line, _, _ := strings.Cut(e.Must("port", name, private), "\n")
	_, p, err := net.SplitHostPort(line)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPublishedPorts(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "web", "-p", "80", image, "httpd", "-f", "-p", "80", "-h", "/www")
	p := port(t, e, "web", "80/tcp")
	hosts := []string{"127.0.0.1", "[::1]", e.Subnet + ".1"}
	for _, h := range hosts {
		if got, err := get(h + ":" + p); err != nil || got != "gantry\n" {
			t.Errorf("through %s: %q, %v", h, got, err)
		}
	}
	if got := e.Must("run", "--rm", image, "sh", "-c", fetch(e.Subnet+".1", p)); got != "gantry" {
		t.Errorf("from another container through the host's address: %q", got)
	}
	if got := e.Must("exec", "web", "sh", "-c", fetch(e.Subnet+".1", p)); got != "gantry" {
		t.Errorf("from itself through the host's address: %q", got)
	}
	address := inspect(t, e, "web").NetworkSettings.Networks["bridge"].IPAddress
	if got := e.Must("run", "--rm", image, "sh", "-c", fetch(address, "80")); got != "gantry" {
		t.Errorf("from another container: %q", got)
	}
	if r := e.Docker("run", "--rm", "-p", p+":80", image, "true"); r.Code != 125 ||
		!strings.Contains(r.Stderr, "docker: Error response from daemon: failed to set up container networking: driver failed programming external connectivity on endpoint ") ||
		!strings.Contains(r.Stderr, "Bind for 0.0.0.0:"+p+" failed: port is already allocated") {
		t.Errorf("a port of another container: %d %s", r.Code, r.Stderr)
	}
	if err := shut(p); err == nil {
		t.Error("the port could be taken by another process")
	}
	e.Must("stop", "-t", "0", "web")
	if err := shut(p); err != nil {
		t.Errorf("the port of a stopped container is still taken: %v", err)
	}
	e.Must("start", "web")
	e.Clean(t)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	r := e.Docker("run", "--name", "bad", "-p", fmt.Sprintf("127.0.0.1:%d:80", taken), image, "true")
	if r.Code != 125 || !strings.Contains(r.Stderr, "failed to bind host port 127.0.0.1:"+itoa(taken)+":") || !strings.Contains(r.Stderr, ":80/tcp: address already in use") {
		t.Errorf("a port of another process: %d %s", r.Code, r.Stderr)
	}
	if s := status(e, "bad"); s != "created" {
		t.Errorf("the container is %s", s)
	}
	e.Clean(t)
}

// fetch is a script that gets / from a port. Debian's static busybox crashes in wget
// when the address has a port, and when it is refused.
func fetch(host, port string) string {
	return "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 " + host + " " + port + " | tail -n 1"
}

// shut says whether the port is free for another process.
func shut(port string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err == nil {
		l.Close()
	}
	return err
}

// TestUDP reaches a server in a container through a published UDP port. Debian's
// busybox has none, so the test itself listens in the container's network.
func TestUDP(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "echo", "-p", "7/udp", image, "sleep", "1000")
	server := listenIn(t, inspect(t, e, "echo").State.Pid, ":7")
	go func() { // ends when the server is closed
		buf := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(append([]byte("echo "), buf[:n]...), from)
		}
	}()
	p := port(t, e, "echo", "7/udp")
	for _, h := range []string{"127.0.0.1", "::1", e.Subnet + ".1"} {
		c, err := net.Dial("udp", net.JoinHostPort(h, p))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		for range 3 {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write([]byte("ping"))
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != "echo ping" {
				t.Errorf("through %s: %q, %v", h, buf[:n], err)
			}
		}
		c.Close()
	}
}

// listenIn opens a UDP socket in the network namespace of a process.
func listenIn(t *testing.T, pid int, addr string) net.PacketConn {
	t.Helper()
	conn := inNetns(t, pid, func() (net.PacketConn, error) { return net.ListenPacket("udp4", addr) })
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestNetworkModes(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "peer", "--hostname", "peer", image, "httpd", "-f", "-p", "80", "-h", "/www")
	for _, r := range []row{
		{name: "none", args: sh("ls /sys/class/net; cat /etc/resolv.conf >/dev/null", "--network", "none"), out: "lo"},
		{name: "bridge", args: sh("ls /sys/class/net; ip route | head -1 | sed 's/ *$//'"), out: "eth0\nlo\ndefault via " + e.Subnet + ".1 dev eth0"},
		{name: "host", args: sh("test -e /sys/class/net/"+e.Bridge+" && echo host", "--network", "host"), out: "host"},
		{name: "container", args: sh("wget -qO- 127.0.0.1; hostname", "--network", "container:peer"), out: "gantry\npeer"},
		{name: "hosts file", args: sh("grep box /etc/hosts | cut -f2; grep db /etc/hosts", "-h", "box", "--add-host", "db:10.0.0.9"), out: "box\n10.0.0.9\tdb"},
		{name: "host gateway", args: sh("grep gw /etc/hosts", "--add-host", "gw:host-gateway"), out: e.Subnet + ".1\tgw"},
		{name: "resolv.conf", args: sh("cat /etc/resolv.conf | grep -v '^#'", "--dns", "9.9.9.9", "--dns-search", "example.org", "--dns-option", "ndots:2"),
			out: "nameserver 9.9.9.9\nsearch example.org\noptions ndots:2"},
		{name: "sysctl for ports", args: sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), out: "0"},
		{name: "loopback of the host", args: sh("nc -w 2 127.0.0.1 22 < /dev/null"), code: 1},
	} {
		t.Run(r.name, func(t *testing.T) {
			got := e.Docker(r.args...)
			if got.Code != r.code {
				t.Errorf("exit %d, want %d: %s", got.Code, r.code, got.Stderr)
			}
			compare(t, "stdout", got.Stdout, r.out)
		})
	}
	if got := e.Must("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"); got != "bridge bridge local\nhost host local\nnone null local" {
		t.Errorf("network ls:\n%s", got)
	}
	if got := e.Must("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}} {{range .Containers}}{{.Name}}{{end}}", "bridge"); got != e.Subnet+".0/24 peer" {
		t.Errorf("network inspect: %s", got)
	}
	if r := e.Docker("network", "rm", "bridge"); r.Code == 0 || !strings.Contains(r.Stderr, "bridge is a pre-defined network and cannot be removed") {
		t.Errorf("network rm: %s", r.Stderr)
	}
}
