package integrationcli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
)

// TestReboot cuts the power under containers and starts the engine on the next boot of
// its machine, once with what the last one left in the exec-root and once without.
func TestReboot(t *testing.T) {
	t.Parallel()
	e := engine.StartMachine(t)
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	host := filepath.Join(e.Dir, "host")
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{
		"plain":  {"--network", "none", "--stop-signal", "INT"},
		"always": {"--restart", "always", "-p", "8080:80", "-v", "data:/data", "-v", host + ":/host", "--ipc", "shareable", "--mount", "type=image,src=" + image + ",dst=/img"},
		"failed": {"--restart", "on-failure:3", "--network", "none"},
		"down":   {"--restart", "unless-stopped"},
		"gone":   {"--rm", "-v", "/anonymous"},
		"frozen": {"--network", "none"},
	} {
		runHTTP(e, name, "80", flags...)
	}
	runHTTP(e, "unless", "81", "--restart", "unless-stopped", "--network", "container:always")
	runHTTP(e, "linked", "82", "--restart", "always", "--link", "always:peer")
	e.Must("create", "--name", "new", image, "true")
	e.Must("stop", "-t", "0", "down")
	e.Must("pause", "frozen")
	e.Must("exec", "always", "sh", "-c", "echo kept > /data/f; echo kept > /layer; sync")
	if got := fetchIn(t, e, "127.0.0.1:8080"); got != "gantry\n" {
		t.Fatalf("before: %q", got)
	}
	time.Sleep(1500 * time.Millisecond) // a second may be lost
	for _, boot := range []string{"with a stale exec-root", "with an empty one"} {
		t.Run(boot, func(t *testing.T) {
			e.PowerOff()
			if boot == "with an empty one" {
				if err := os.RemoveAll(filepath.Join(e.Dir, "exec")); err != nil {
					t.Fatal(err)
				}
			}
			e.Launch()
			checkBooted(t, e)
		})
	}
}

// runHTTP runs a container that serves a page.
func runHTTP(e *engine.Engine, name, port string, flags ...string) {
	args := append([]string{"run", "-d", "--name", name}, flags...)
	e.Must(append(args, image, "httpd", "-f", "-p", port, "-h", "/www")...)
}

func checkBooted(t *testing.T, e *engine.Engine) {
	for name, code := range map[string]int{"plain": 255, "frozen": 255, "down": 137} {
		in := inspect(t, e, name)
		if in.State.Status != "exited" || in.State.ExitCode != code || in.State.Pid != 0 || in.State.Running || in.State.Paused {
			t.Errorf("%s: %+v", name, in.State)
		}
		if finished, err := time.Parse(time.RFC3339Nano, in.State.FinishedAt); err != nil || time.Since(finished) > time.Minute {
			t.Errorf("%s finished at %s", name, in.State.FinishedAt)
		}
	}
	for _, name := range []string{"always", "unless", "failed", "linked"} {
		eventually(t, name+" is started", func() bool { return status(e, name) == "running" })
	}
	if s := status(e, "new"); s != "created" {
		t.Errorf("the one that was never started is %s", s)
	}
	eventually(t, "what removes itself has gone", func() bool { return e.Docker("inspect", "gone").Code != 0 })
	eventually(t, "its volume too", func() bool { return e.Must("volume", "ls", "-q") == "data" })
	in := inspect(t, e, "always")
	if got := fetchIn(t, e, "127.0.0.1:8080"); got != "gantry\n" {
		t.Errorf("the published port: %q", got)
	}
	if got := fetchIn(t, e, in.NetworkSettings.Networks["bridge"].IPAddress+":81"); got != "gantry\n" {
		t.Errorf("the one that joins the network: %q", got)
	}
	if got := e.Must("exec", "always", "sh", "-c", "cat /data/f /layer; echo x > /host/f; df /dev/shm | tail -n 1 | cut -c 1-3; ls -d /img/etc/passwd"); got != "kept\nkept\nshm\n/img/etc/passwd" {
		t.Errorf("mounts: %q", got)
	}
	if hosts, peer := e.Must("exec", "linked", "cat", "/etc/hosts"), in.NetworkSettings.Networks["bridge"].IPAddress; !strings.Contains(hosts, peer+"\tpeer ") {
		t.Errorf("hosts of the one that is linked to %s:\n%s", peer, hosts)
	}
	checkNothingStale(t, e)
	e.Must("start", "plain")
	e.Must("stop", "-t", "0", "plain")
	if in := inspect(t, e, "plain"); in.State.ExitCode != 137 {
		t.Errorf("plain after a start and a stop: %+v", in.State)
	}
	e.Must("start", "plain", "frozen")
	e.Must("pause", "frozen")
	e.Must("run", "-d", "--rm", "--name", "gone", "-v", "/anonymous", image, "sleep", "1000")
	time.Sleep(1500 * time.Millisecond) // a second may be lost
}

// checkNothingStale looks for what only the boot before can have left.
func checkNothingStale(t *testing.T, e *engine.Engine) {
	names, _ := os.ReadDir(filepath.Join(e.Dir, "exec", "netns"))
	var want []string
	for _, id := range strings.Fields(e.Must("ps", "-q", "--no-trunc")) {
		if path := inspect(t, e, id).NetworkSettings.SandboxKey; path != "" {
			want = append(want, filepath.Base(path))
		}
	}
	for _, n := range names {
		if !strings.Contains(strings.Join(want, " "), n.Name()) {
			t.Errorf("stale network namespace %s, of running containers are %v", n.Name(), want)
		}
	}
	bundles, _ := filepath.Glob(filepath.Join(e.Dir, "exec/core/io.containerd.runtime.v2.task/*/*"))
	if running := strings.Fields(e.Must("ps", "-q")); len(bundles) != len(running) {
		t.Errorf("%d bundles for %d running containers: %v", len(bundles), len(running), bundles)
	}
	shm := filepath.Join(e.Dir, "data/containers/*/shm")
	if found, _ := filepath.Glob(shm); len(found) > 1 {
		t.Errorf("places for /dev/shm: %v", found)
	}
}

// fetchIn gets / from an address on the engine's machine, retrying while the server
// starts.
func fetchIn(t *testing.T, e *engine.Engine, addr string) string {
	t.Helper()
	var last error
	for range 100 {
		conn, err := dialIn(t, e, addr)
		if err == nil {
			c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			}}
			var r *http.Response
			if r, err = c.Get("http://" + addr + "/"); err == nil {
				defer r.Body.Close()
				b, _ := io.ReadAll(r.Body)
				return string(b)
			}
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Sprint(last)
}

func dialIn(t *testing.T, e *engine.Engine, addr string) (net.Conn, error) {
	type dialled struct {
		net.Conn
		err error
	}
	d := inNetns(t, e.PID(), func() (dialled, error) {
		c, err := net.DialTimeout("tcp4", addr, 2*time.Second)
		return dialled{c, err}, nil
	})
	return d.Conn, d.err
}
