package swap

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

const dockerPrelude = `
D="docker"
d() { timeout --foreground -k 2 40 docker "$@"; }
RUN="docker run --runtime $R"
run() { timeout --foreground -k 2 40 docker run --runtime $R "$@"; }
`

// dockerd runs Debian's daemon, and the containerd that it starts, in namespaces of its
// own.
func dockerd(t *testing.T, args ...string) caller {
	t.Helper()
	need.Root(t, "runs dockerd")
	need.Command(t, "docker")
	need.Command(t, "unshare")
	need.Command(t, "script")
	p := newPlace(t)
	config := filepath.Join(p.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(p.dir, "s")
	words := append([]string{
		need.Command(t, "unshare"), "--net", "--mount", "--propagation", "private",
		"sh", "-c", `ip link set lo up; exec "$@"`, "sh", need.Command(t, "dockerd"),
		"--data-root", p.dir + "/data", "--exec-root", p.dir + "/exec", "-H", "unix://" + socket, "--pidfile", p.dir + "/pid",
		"--config-file", config, "--iptables=false", "--ip6tables=false", "--bip", "10.9.0.1/24", "-s", "overlay2", "--cgroup-parent", "/" + p.cgroup,
		"--init-path", engine.Binary(t, "gantry-init"),
		"--add-runtime", "gantry=" + engine.Binary(t, "grun"),
	}, args...)
	d := launch(t, words...)
	c := caller{name: "dockerd", prelude: dockerPrelude, dir: p.dir, env: dockerEnv(p.dir, socket, p.cgroup)}
	d.ready(t, "socket", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			err = c.docker("version").Run()
		}
		return err == nil
	})
	t.Cleanup(func() {
		out, _ := c.docker("ps", "-aq").Output()
		if ids := strings.Fields(string(out)); len(ids) > 0 {
			t.Errorf("containers are left: %v", ids)
			c.docker(append([]string{"rm", "-fv"}, ids...)...).Run()
		}
		p.empty(t, fmt.Sprintf("/proc/%d/mountinfo", d.cmd.Process.Pid))
	})
	load := c.docker("load", "-q")
	load.Stdin = bytes.NewReader(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("docker load: %v: %s", err, out)
	}
	return c
}

func dockerEnv(dir, socket, cgroup string) []string {
	return []string{"DOCKER_HOST=unix://" + socket, "DOCKER_CONFIG=" + dir + "/client", "DOCKER_CONTEXT=", "G=" + cgroup}
}

func (c caller) docker(args ...string) *exec.Cmd {
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), c.env...)
	return cmd
}

func TestDockerd(t *testing.T) {
	dockerd(t).compare(t, slices.Concat(runs, failures, lives), "runc", "gantry")
}

// TestDockerdDefault has grun run what asks for no runtime.
func TestDockerdDefault(t *testing.T) {
	c := dockerd(t, "--default-runtime", "gantry")
	c.compare(t, []story{
		{name: "info", script: `d info --format '{{.DefaultRuntime}}'`, want: "gantry"},
		{name: "default", script: `d run -d --name $N $I sleep 1000 >/dev/null; d inspect -f '{{.HostConfig.Runtime}}' $N; d exec $N echo in; d stop -t 0 $N; d rm $N`, want: "gantry\nin\nNAME\nNAME"},
	}, "runc", "gantry")
}
