package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
	"gantry/internal/testutil/registrytest"
)

const ns = "clients"

// core is a socket to tell stories to.
type core struct {
	name   string
	socket string
	dir    string // for what clients keep
}

// ours is the core in an engine.
func ours(t *testing.T) core {
	t.Helper()
	e := engine.Start(t)
	c := core{name: "gantry", socket: e.CoreSocket(), dir: t.TempDir()}
	c.cleanUp(t)
	return c
}

// theirs is the pinned containerd, with the shim and the runtime of runc.
func theirs(t *testing.T) core {
	t.Helper()
	need.Command(t, "runc")
	need.Client(t, "containerd-shim-runc-v2")
	daemon := need.Client(t, "containerd")
	dir, err := os.MkdirTemp("", "ctd") // sockets have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := core{name: "containerd", socket: filepath.Join(dir, "s"), dir: t.TempDir()}
	config := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\ndisabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri']\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config", filepath.Join(dir, "config.toml"))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(daemon)+":/usr/local/sbin:/usr/sbin:/sbin:"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("containerd's log ends\n%s", text[max(0, len(text)-2000):])
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(c.socket); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("containerd does not come up: ", err)
		}
	}
	c.cleanUp(t)
	return c
}

// cleanUp ends what a broken story leaves, and reports it.
func (c core) cleanUp(t *testing.T) {
	t.Cleanup(func() {
		for _, what := range []string{"tasks", "containers"} {
			if ids := strings.Fields(c.run(t, "", need.Client(t, "ctr"), "-a", c.socket, "-n", ns, what, "ls", "-q").out); len(ids) > 0 {
				t.Errorf("%s: %s are left: %v", c.name, what, ids)
				c.run(t, "", need.Client(t, "ctr"), append([]string{"-a", c.socket, "-n", ns, what, "rm", "-f"}, ids...)...)
			}
		}
		// What runtimes leave of cgroups is the parent that the stories name.
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			children, _ := filepath.Glob(pattern + ns + "/*/")
			parents, _ := filepath.Glob(pattern + ns)
			for i, dir := range append(children, parents...) {
				if err := os.Remove(dir); i < len(children) {
					t.Errorf("%s: cgroup %s is left (%v)", c.name, dir, err)
				}
			}
		}
	})
}

type result struct {
	out  string // both streams
	code int
}

// run executes a client, for a minute at most.
func (c core) run(t *testing.T, stdin, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir = c.dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "CONTAINERD_ADDRESS="+c.socket, "CONTAINERD_NAMESPACE="+ns, "HOME="+c.dir)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil || ctx.Err() != nil {
		t.Errorf("%s: %s %s: %v", c.name, filepath.Base(program), strings.Join(args, " "), err)
	}
	return result{chatter.ReplaceAllString(string(out), ""), cmd.ProcessState.ExitCode()}
}

// chatter is what clients log of their daemon's configuration, and of signals that come too late.
var chatter = regexp.MustCompile(`(?m)^time=.* msg="(DEPRECATION:|forward signal).*\n`)

// registry is a real one on loopback with the test image as "bb:1".
func registry(t *testing.T) *registrytest.Registry {
	t.Helper()
	r := registrytest.Start(t)
	path := filepath.Join(t.TempDir(), "bb.tar")
	if err := os.WriteFile(path, busybox.Archive(t, busybox.Config{}, "bb:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(need.Command(t, "skopeo"), "copy", "--dest-tls-verify=false", "docker-archive:"+path, "docker://"+r.Host+"/bb:1").CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	return r
}
