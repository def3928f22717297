package swap

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// In these stories the runtime is a shim, by name or path.
const shimPrelude = `
D="$CTR --address $S -n swap"
d() { timeout --foreground -k 2 40 $D "$@"; }
RUN="$D run --runtime $R --cgroup /$G/$N"
run() { timeout --foreground -k 2 40 $RUN "$@"; }
I=docker.io/library/busybox:test
stopped() { for i in $(seq 200); do d task ls | grep -q "^$1 .*STOPPED" && return; sleep .05; done; echo "$1 runs"; }
forgotten() { for i in $(seq 200); do d task ls | grep -q "^$1 " || return; sleep .05; done; echo "$1 is there"; }
code() { d task rm $1 2>&1 | grep -o 'exit code [0-9]*' | cut -d' ' -f3; }
rm_rf() { d task kill -s KILL $1 2>/dev/null; stopped $1; d task rm $1 2>&1 | grep -v level=warning; d c rm $1; }
shim_of() { grep -l -z -x -F -e "$1" /proc/[0-9]*/cmdline 2>/dev/null | while read f; do tr '\0' '\n' <$f 2>/dev/null | head -1 | grep -q containerd-shim && echo $f; done | cut -d/ -f3; }
`

// shimStories are of what a core and a shim say to each other. What prints something lives a
// little longer than that: ctr closes its ends when it hears of an exit, whether it has
// read all or not.
var shimStories = []story{
	{name: "run", script: `run --rm $I $N sh -c 'echo out; sleep .3; exit 7'; echo $?`, want: "out\n7"},
	{name: "stdin", script: `echo in | run --rm $I $N sh -c 'head -1; sleep .3'`, want: "in"},
	{name: "terminal", script: `printf 'until stty size | grep "33 91"; do sleep .05; done; echo got $((6*7))\nexit 3\n' | tty $RUN --rm -t $I $N sh >$T/o; echo $?; grep -o '^got 42\|^33 91' $T/o`, want: "3\n33 91\ngot 42"},
	{name: "no such command", script: `run --rm $I $N nope 2>&1 | grep -o 'executable file not found in $PATH'; run --rm $I $N nope 2>/dev/null; echo $?; d task ls | grep -c "^$N "`, want: "executable file not found in $PATH\n1\n0"},
	{name: "out of memory", script: `$D events >$T/ev & e=$!; run --rm --memory-limit 12582912 $I $N tail /dev/zero; echo $?; for i in $(seq 40); do grep "/tasks/oom.*$N" $T/ev >/dev/null && break; sleep .05; done; kill $e; grep -c "/tasks/oom.*\"$N\"" $T/ev`, want: "137\n1"},
	{name: "life", script: `run -d $I $N sleep 1000; d task exec --exec-id e1 $N sh -c 'echo in; sleep .3; exit 4'; echo $?
		d task pause $N; d task ls | grep "^$N " | grep -o PAUSED; d task resume $N; d task ls | grep "^$N " | grep -o RUNNING
		d task metrics $N | grep -o '^memory.usage_in_bytes\|^memory.usage ' | head -1; d task ps $N | wc -l
		d task exec --exec-id e2 $N nope 2>&1 | grep -o 'executable file not found in $PATH'
		echo in | d task exec --exec-id e3 $N sh -c 'head -1; sleep .3'; d task exec --exec-id e4 $N sh -c 'kill -9 $$'; echo $?
		rm_rf $N`, want: "in\n4\nPAUSED\nRUNNING\nmemory.usage…\n2\nexecutable file not found in $PATH\nin\n137"},
	{name: "exec terminal", script: `run -d $I $N sleep 1000; printf 'until stty size | grep "33 91"; do sleep .05; done; echo got $((6*7))\nexit 3\n' | tty $D task exec --exec-id e -t $N sh >$T/o; echo $?; grep -o '^got 42\|^33 91' $T/o; rm_rf $N`, want: "3\n33 91\ngot 42"},
	{name: "signals", script: `run -d $I $N sh -c 'trap "exit 5" USR1; while :; do sleep .05; done'; sleep .5; d task kill -s USR1 $N; stopped $N; code $N; d c rm $N
		run -d $I $N sh -c 'sleep 1000 & sleep 1000'; d task kill -a -s KILL $N; stopped $N; code $N; d c rm $N`, want: "5\n137"},
	{name: "created and never started", script: `d c create --runtime $R $I $N sleep 1000; d c rm $N; echo $?`, want: "0"},
	{name: "checkpoint", script: `run -d $I $N sleep 1000; d task checkpoint $N 2>&1 | grep -c -i 'criu\|checkpoint'; d task ls | grep "^$N " | grep -o RUNNING; rm_rf $N`, want: "…\nRUNNING"},
	{name: "pod", script: `for i in 1 2 3; do $D run --runtime $R --cgroup /$G/$N-$i -d --annotation io.kubernetes.cri.sandbox-id=$N $I $N-$i sleep 1000; done; for i in 1 2 3; do shim_of $N-$i; done | wc -l
		d task exec --exec-id e $N-3 sh -c 'echo in; sleep .3'; rm_rf $N-1; d task exec --exec-id e $N-2 sh -c 'echo on; sleep .3'; rm_rf $N-2; rm_rf $N-3`, want: "1\nin\non"},
	{name: "dead shim", script: `$D events >$T/ev & e=$!; run -d $I $N sleep 1000; init=$(d task ls | awk '$1 == "'$N'" { print $2 }'); kill -9 $(shim_of $N); forgotten $N
		for i in $(seq 100); do [ -d /proc/$init ] || break; sleep .05; done; [ -d /proc/$init ] && echo it runs; d c rm $N; kill $e
		grep -c "/tasks/exit.*\"$N\".*\"exit_status\":137" $T/ev; grep -c "/tasks/delete.*\"$N\".*137" $T/ev; run --rm $I $N sh -c 'echo again; sleep .3'`, want: "1\n1\nagain"},
}

// host is a core that runs shims.
type host struct {
	caller
	place
	daemon *daemon
	launch func() // once more, after its end
	check  func() // that nothing is left; while the core runs
}

// newHost runs a core, given its socket's path and a directory, and drives it with a ctr.
func newHost(t *testing.T, ctr, path string, words func(p place, socket string) []string) *host {
	t.Helper()
	need.Root(t, "runs containers")
	need.Command(t, "script")
	need.Command(t, "runc")
	p := newPlace(t)
	socket := filepath.Join(p.dir, "s")
	h := &host{place: p, caller: caller{name: "ctr", prelude: shimPrelude, dir: p.dir,
		env: []string{"S=" + socket, "G=" + p.cgroup, "CTR=" + ctr}}}
	h.launch = func() {
		t.Helper()
		h.daemon = launchIn(t, path, words(p, socket)...)
		h.daemon.ready(t, "socket", func() bool {
			c, err := net.Dial("unix", socket) // ctr would wait long for a dead one's
			if err != nil {
				return false
			}
			c.Close()
			return exec.Command(ctr, "--address", socket, "version").Run() == nil
		})
	}
	h.launch()
	h.check = func() {
		t.Helper()
		for _, what := range []string{"tasks", "containers"} {
			out, err := exec.Command(ctr, "--address", socket, "-n", "swap", what, "ls", "-q").Output()
			if err != nil {
				t.Errorf("list %s: %v", what, err)
			}
			if ids := strings.Fields(string(out)); len(ids) > 0 {
				t.Errorf("%s are left: %v", what, ids)
				exec.Command(ctr, append([]string{"--address", socket, "-n", "swap", what, "rm", "-f"}, ids...)...).Run()
			}
		}
		p.empty(t, "")
		for _, pattern := range []string{"/run/containerd/runc/swap/*", p.dir + "/*state/io.containerd.runtime.v2.task/swap/*", p.dir + "/*root/io.containerd.runtime.v2.task/swap/*"} {
			if left, _ := filepath.Glob(pattern); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		}
	}
	load := exec.Command(ctr, "--address", socket, "-n", "swap", "images", "import", "-")
	load.Stdin = bytes.NewReader(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("ctr images import: %v: %s", err, out)
	}
	return h
}

// debian is Debian's containerd, with the shims of dir beside its own.
func debian(t *testing.T, dir string) *host {
	return newHost(t, need.Command(t, "ctr"), dir+":"+os.Getenv("PATH"), func(p place, socket string) []string {
		return containerdCommand(t, need.Command(t, "containerd"), p, socket, 2)
	})
}

// second is containerd 2.x with its own shim, and those of dir.
func second(t *testing.T, dir string) *host {
	daemon := need.Client(t, "containerd")
	return newHost(t, need.Client(t, "ctr"), filepath.Dir(daemon)+":"+dir+":"+os.Getenv("PATH"), func(p place, socket string) []string {
		return containerdCommand(t, daemon, p, socket, 3)
	})
}

// ours is "gantryd core", driven by a ctr. The name of runc's shim is not ours there.
func ours(t *testing.T, ctr string) *host {
	return newHost(t, ctr, os.Getenv("PATH"), func(p place, socket string) []string {
		config := filepath.Join(p.dir, "core.toml")
		text := "version = 3\n[plugins.'io.containerd.runtime.v2.task'.aliases]\n'" + runcRuntime + "' = '" + runcRuntime + "'\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{engine.Binary(t, "gantryd"), "core", "--config", config, "--root", p.dir + "/root", "--state", p.dir + "/state", "--address", socket}
	})
}

func containerdCommand(t *testing.T, daemon string, p place, socket string, version int) []string {
	config := filepath.Join(p.dir, "config.toml")
	text := fmt.Sprintf("version = %d\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n", version)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{daemon, "--config", config, "--root", p.dir + "/root", "--state", p.dir + "/state", "--address", socket}
}

const ourRuntime, runcRuntime = "io.containerd.gantry.v2", "io.containerd.runc.v2"

// TestShimUnderContainerd has both containerds run our shim, by name and by path, as they
// run their own.
func TestShimUnderContainerd(t *testing.T) {
	shim := engine.Binary(t, "containerd-shim-gantry-v2")
	t.Run("Debian", func(t *testing.T) {
		h := debian(t, filepath.Dir(shim))
		t.Cleanup(h.check)
		h.compare(t, shimStories, runcRuntime, ourRuntime)
		h.compare(t, shimStories[:1], runcRuntime, shim)
	})
	t.Run("2.x", func(t *testing.T) {
		h := second(t, filepath.Dir(shim))
		t.Cleanup(h.check)
		h.compare(t, shimStories, runcRuntime, ourRuntime)
		h.compare(t, shimStories[:1], runcRuntime, shim)
	})
}

// TestShimsUnderCore has our core run the shims of both containerds, and ours, driven by
// the ctr of either.
func TestShimsUnderCore(t *testing.T) {
	t.Run("Debian", func(t *testing.T) {
		h := ours(t, need.Command(t, "ctr"))
		t.Cleanup(h.check)
		h.compare(t, shimStories, underCore(runcRuntime)...)
	})
	t.Run("2.x", func(t *testing.T) {
		h := ours(t, need.Client(t, "ctr"))
		t.Cleanup(h.check)
		h.compare(t, shimStories, underCore(need.Client(t, "containerd-shim-runc-v2"))...)
	})
}

// underCore are the runtimes that stories are told on: a foreign one, and at full length
// ours, which other tests have there all the time.
func underCore(foreign string) []string {
	if fullLength() {
		return []string{"", foreign, ourRuntime}
	}
	return []string{"", foreign}
}

// TestHostDies kills a core under containers of all shims that it knows: they run on, and
// the next one has them, and knows how those have ended that have.
func TestHostDies(t *testing.T) {
	shim := engine.Binary(t, "containerd-shim-gantry-v2")
	for name, tc := range map[string]struct {
		host     func(t *testing.T) *host
		runtimes []string
	}{
		"containerd":   {func(t *testing.T) *host { return debian(t, filepath.Dir(shim)) }, []string{ourRuntime}},
		"containerd 2": {func(t *testing.T) *host { return second(t, filepath.Dir(shim)) }, []string{ourRuntime}},
		"gantryd core": {func(t *testing.T) *host { return ours(t, need.Command(t, "ctr")) }, []string{runcRuntime, need.Client(t, "containerd-shim-runc-v2"), ourRuntime}},
	} {
		t.Run(name, func(t *testing.T) {
			h := tc.host(t)
			before := story{name: "dies", script: `$D run --runtime $R --cgroup /$G/$N-1 -d $I $N-1 sh -c 'trap "exit 5" TERM; while :; do sleep .05; done'; $D run --runtime $R --cgroup /$G/$N-2 -d $I $N-2 sh -c 'sleep 1; exit 7'; echo ok`, want: "ok"}
			after := story{name: "dies", script: `d task ls | grep "^$N-1 " | grep -o RUNNING; d task exec --exec-id e $N-1 sh -c 'echo in; sleep .3; exit 3'; echo $?
				d task kill $N-1; stopped $N-1; stopped $N-2; code $N-1; code $N-2; d c rm $N-1 $N-2`, want: "RUNNING\nin\n3\n5\n7"}
			for _, r := range tc.runtimes {
				if got := h.tell(t, before, r); got.stdout != "ok\n" {
					t.Fatalf("%s: %+v", r, got)
				}
			}
			h.daemon.cmd.Process.Signal(syscall.SIGKILL)
			<-h.daemon.ended
			h.launch()
			for _, r := range tc.runtimes {
				if got := h.tell(t, after, r); !matches(got.stdout, after.want) {
					t.Errorf("%s:\n%s\nwant\n%s\nstderr:\n%s", r, got.stdout, after.want, got.stderr)
				}
			}
			h.check()
		})
	}
}
