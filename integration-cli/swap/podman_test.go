package swap

import (
	"bytes"
	"fmt"
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

// Without CAP_SYS_RESOURCE podman's own limits are more than may be given. Its default
// network needs programs that are no part of this.
const podmanPrelude = `
D="podman $P --runtime $R"
d() { case "$1 $2" in "rm -f") shift 2; set -- rm -f -t 0 "$@";; esac; timeout --foreground -k 2 40 podman $P --runtime $R "$@"; }
plain="--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --cgroup-parent /$G"
RUN="$D run $plain --network none"
run() { case "$*" in *--network*) d run $plain "$@";; *) d run $plain --network none "$@";; esac; }
`

// podman prepares Debian's podman on directories of its own.
func podman(t *testing.T) caller {
	t.Helper()
	need.Root(t, "runs podman")
	need.Command(t, "podman")
	need.Command(t, "conmon")
	need.Command(t, "runc")
	need.Command(t, "script")
	p := newPlace(t)
	p.prefix = "libpod-"
	conf := filepath.Join(p.dir, "containers.conf")
	text := fmt.Sprintf(`[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime_supports_json = ["grun", "runc", "crun"]
init_path = %q
tmp_dir = %q
static_dir = %q
volume_path = %q
[engine.runtimes]
grun = [%q]
`, engine.Binary(t, "gantry-init"), p.dir+"/tmp", p.dir+"/libpod", p.dir+"/volumes", engine.Binary(t, "grun"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	storage := filepath.Join(p.dir, "storage.conf")
	text = fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", p.dir+"/root", p.dir+"/run")
	if err := os.WriteFile(storage, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := caller{name: "podman", prelude: podmanPrelude, dir: p.dir, env: []string{
		"CONTAINERS_CONF=" + conf, "G=" + p.cgroup, "CONTAINERS_STORAGE_CONF=" + storage, "P=" + strings.Join(flags(p), " "),
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
	}}
	t.Cleanup(func() {
		if out, _ := c.podman("ps", "-aq").Output(); len(out) > 0 {
			t.Errorf("containers are left: %s", out)
			c.podman("rm", "-fa", "-t", "0").Run()
		}
		c.podman("pod", "rm", "-fa").Run()
		p.empty(t, "")
		exec.Command("umount", p.dir+"/root/overlay").Run()
	})
	load := c.podman("load", "-q")
	load.Stdin = bytes.NewReader(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("podman load: %v: %s", err, out)
	}
	return c
}

// flags are where podman keeps its things: what conmon runs in the end is told by flags
// alone.
func flags(p place) []string {
	return []string{"--root", p.dir + "/root", "--runroot", p.dir + "/run", "--tmpdir", p.dir + "/tmp", "--storage-driver", "overlay"}
}

func (c caller) podman(args ...string) *exec.Cmd {
	cmd := exec.Command("podman", append(flags(place{dir: c.dir}), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	return cmd
}

func TestPodman(t *testing.T) {
	c := podman(t)
	c.compare(t, slices.Concat(runs, failures, lives, podmanStories), "runc", "grun")
}

// podmanStories are what podman has in words of its own.
var podmanStories = []story{
	{name: "info", script: `d info --format '{{.Host.OCIRuntime.Name}}' | sed s/runc/grun/`, want: "grun"},
	{name: "podman pause", script: `run -d --name $N $I sleep 1000 >/dev/null; d pause $N >/dev/null; d inspect -f '{{.State.Status}}' $N; d unpause $N >/dev/null; d exec $N echo on; d rm -f $N >/dev/null`, want: "paused\non"},
	{name: "podman update", script: `run -d --name $N --memory 64m $I sleep 1000 >/dev/null; d update --memory 32m --cpu-shares 100 $N >/dev/null; d exec $N sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.shares'; d rm -f $N >/dev/null`, want: "33554432\n100"},
	{name: "podman top", script: `run -d --name $N $I sleep 1000 >/dev/null; d top $N args; d rm -f $N >/dev/null`, want: "COMMAND\nsleep 1000"},
	{name: "podman kill", script: `run -d --name $N $I sleep 1000 >/dev/null; d kill $N >/dev/null; d wait $N; d start $N >/dev/null; d inspect -f '{{.State.Status}}' $N; d rm -f $N >/dev/null`, want: "137\nrunning"},
	{name: "pod", script: `d pod create --name $N-pod --infra-image busybox:test --infra-command "sleep 1000" --infra-name $N-infra --network none --share net,ipc,uts --cgroup-parent /$G >/dev/null
		for n in a b; do d run -d --pod $N-pod --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --name $N-$n $I sleep 1000 >/dev/null; done
		for n in net ipc uts; do [ "$(d exec $N-a readlink /proc/self/ns/$n)" = "$(d exec $N-b readlink /proc/self/ns/$n)" ] && echo same $n; done
		d pod ps --filter name=$N-pod --format '{{.Status}} {{.NumberOfContainers}}'; d pod rm -f -t 0 $N-pod >/dev/null; d ps -a --filter name=$N -q`, want: "same net\nsame ipc\nsame uts\nRunning 3", not: []string{"runc"}},
}
