package swap

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// In these stories $B is "--runc-binary PATH --runc-root DIR", and the runtime is the one
// of io.containerd.runc.v2.
const ctrPrelude = `
D="ctr --address $S -n swap"
d() { timeout --foreground -k 2 40 $D "$@"; }
parent="--cgroup /$G/$N"
RUN="$D run --runc-binary $R --runc-root $ROOT $parent"
run() { timeout --foreground -k 2 40 $RUN "$@"; }
I=docker.io/library/busybox:test
`

// containerd runs Debian's containerd on directories of its own.
func containerd(t *testing.T) caller {
	t.Helper()
	need.Root(t, "runs containerd")
	need.Command(t, "ctr")
	need.Command(t, "script")
	need.Command(t, "containerd-shim-runc-v2")
	p := newPlace(t)
	socket := filepath.Join(p.dir, "s")
	config := filepath.Join(p.dir, "config.toml")
	text := "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := launch(t, need.Command(t, "containerd"), "--config", config, "--root", p.dir+"/root", "--state", p.dir+"/state", "--address", socket)
	d.ready(t, "socket", func() bool { return exec.Command("ctr", "--address", socket, "version").Run() == nil })
	c := caller{name: "ctr", prelude: ctrPrelude, dir: p.dir, env: []string{"S=" + socket, "G=" + p.cgroup, "ROOT=" + p.dir + "/runc"}}
	t.Cleanup(func() {
		for _, what := range []string{"tasks", "containers"} {
			out, _ := exec.Command("ctr", "--address", socket, "-n", "swap", what, "ls", "-q").Output()
			if ids := strings.Fields(string(out)); len(ids) > 0 {
				t.Errorf("%s are left: %v", what, ids)
				exec.Command("ctr", append([]string{"--address", socket, "-n", "swap", what, "rm", "-f"}, ids...)...).Run()
			}
		}
		if left, _ := filepath.Glob(p.dir + "/runc/*/*"); len(left) > 0 {
			t.Errorf("state of the runtime is left: %v", left)
		}
		p.empty(t, "")
	})
	load := exec.Command("ctr", "--address", socket, "-n", "swap", "images", "import", "-")
	load.Stdin = bytes.NewReader(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("ctr images import: %v: %s", err, out)
	}
	return c
}

// gone removes a container and its task.
const gone = `
d task kill -s KILL $N; for i in $(seq 100); do d task ls | grep -q "^$N .*STOPPED" && break; sleep .05; done; d task rm $N 2>&1 | grep -v level=warning; d c rm $N`

var ctrStories = []story{
	{name: "run", script: `run --rm $I $N sh -c 'echo out; exit 7'; echo $?`, want: "out\n7"},
	{name: "stdin", script: `echo in | run --rm $I $N head -1`, want: "in"},
	{name: "rootfs", script: `mkdir -p $T/r/bin $T/r/proc $T/r/dev $T/r/sys $T/r/etc; cp $(command -v busybox) $T/r/bin/busybox; run --rm --rootfs $T/r $N /bin/busybox echo inside; ls $T/r`, want: "inside\nbin\ndev\netc\nproc\nrun\nsys"},
	{name: "terminal", script: `printf 'until stty size | grep "33 91"; do sleep .05; done; echo got $((6*7))\nexit 3\n' | tty $RUN --rm -t $I $N sh >$T/o; echo $?; grep -o '^got 42\|^33 91' $T/o`, want: "3\n33 91\ngot 42"},
	{name: "limits", script: `run --rm --memory-limit 33554432 --cpus 0.5 $I $N sh -c 'cat /proc/self/cgroup' | grep -c "$G/$N"; run --rm --memory-limit 12582912 $I $N tail /dev/zero; echo $?`, want: "…\n137"},
	{name: "seccomp", script: `run --rm --seccomp $I $N grep Seccomp: /proc/self/status; run --rm $I $N grep Seccomp: /proc/self/status`, want: "Seccomp:\t2\nSeccomp:\t0"},
	{name: "options", script: `mkdir $T/m; run --rm --env A=1 --cwd /tmp --mount type=bind,src=$T/m,dst=/m,options=rbind:ro $I $N sh -c 'echo $A; pwd; touch /m/x 2>/dev/null || echo no'`, want: "1\n/tmp\nno"},
	{name: "read-only", script: `run --rm --read-only $I $N sh -c 'touch /x 2>/dev/null || echo no'`, want: "no"},
	{name: "host network", script: `[ "$(run --rm --net-host $I $N readlink /proc/self/ns/net)" = "$(readlink /proc/self/ns/net)" ] && echo host`, want: "host"},
	{name: "no such command", script: `run --rm $I $N nope; echo $?`, want: "1", errs: true},
	{name: "apparmor lacking", script: `run --rm --apparmor-profile nope $I $N true >/dev/null 2>&1; [ $? -ne 0 ] && echo refused`, want: "refused"},
	{name: "life", script: `run -d $I $N sleep 1000; d task exec --exec-id e1 $N sh -c 'echo in; exit 4'; echo $?
		d task pause $N; d task ls | grep -o PAUSED; d task resume $N; d task ls | grep "^$N" | grep -o RUNNING
		d task metrics $N | grep -o '^memory.usage_in_bytes\|^memory.usage ' | head -1; d task ps $N | wc -l
		d task exec --exec-id e2 $N nope 2>&1 | grep -o 'executable file not found.*'` + gone, want: "in\n4\nPAUSED\nRUNNING\nmemory.usage…\n2\nexecutable file not found in $PATH: unknown"},
	{name: "exec terminal", script: `run -d $I $N sleep 1000; printf 'until stty size | grep "33 91"; do sleep .05; done; echo got $((6*7))\nexit 3\n' | tty $D task exec --exec-id e -t $N sh >$T/o; echo $?; grep -o '^got 42\|^33 91' $T/o` + gone, want: "3\n33 91\ngot 42\n…"},
	{name: "checkpoint", script: `run -d $I $N sleep 1000; d task checkpoint $N 2>&1 | grep -c -i 'criu\|checkpoint'; d task ls | grep "^$N" | grep -o RUNNING` + gone, want: "…\nRUNNING\n…"},
	{name: "systemd lacking", script: `[ -d /run/systemd/system ] || { run --rm --runc-systemd-cgroup $I $N true 2>&1 | grep -o -i systemd | head -1; }`, want: "systemd"},
}

func TestContainerd(t *testing.T) {
	containerd(t).compare(t, ctrStories, need.Command(t, "runc"), engine.Binary(t, "grun"))
}
