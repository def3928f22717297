package integrationcli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/internal/testutil/engine"
)

// TestDaemonMayDie ends the daemon, once as a crash does and once by its signal, under
// containers of every kind, and starts the next on the same directories: what ran runs
// on and is served without a break, what ended meanwhile is known and treated as it would
// have been.
func TestDaemonMayDie(t *testing.T) {
	e := start(t)
	w := newWorld(t, e)
	for _, end := range []struct {
		name string
		now  func()
	}{{"kill", e.Kill}, {"terminate", e.Terminate}} {
		t.Run(end.name, func(t *testing.T) {
			w.mortals(t, end.name)
			before := w.states(t)
			w.lookAway(t)
			end.now()
			w.comeBack(t)
			w.let(t, end.name)
			e.Launch()
			w.same(t, before)
			w.checkMortals(t, end.name)
			w.checkUse(t)
			w.checkFollow(t)
		})
	}
	tries, err := w.prober.end()
	if err != nil {
		t.Errorf("of %d times asked: %v", tries, err)
	}
	t.Logf("asked %d times", tries)
	w.checkEnds(t)
}

// world is the containers that live through every death of the daemon.
type world struct {
	*engine.Engine
	ctx      context.Context // of the whole test
	sign     string          // a directory that every container sees as /sign
	prober   *prober
	attached *exec.Cmd // a client of talks
	stdin    io.WriteCloser
	heard    lineLog   // what attached has printed
	follow   *exec.Cmd // docker logs -f
	seen     lineLog   // what follow has printed
	last     string    // the line that follow was cut off after
}

// survivors are the containers that run on.
var survivors = []string{"web", "none", "term", "stays", "again", "frozen", "busy", "ticker", "talks"}

func newWorld(t *testing.T, e *engine.Engine) *world {
	w := &world{Engine: e, ctx: t.Context(), sign: filepath.Join(e.Dir, "sign")}
	if err := os.Mkdir(w.sign, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) { e.Must(append([]string{"run", "-v", w.sign + ":/sign"}, args...)...) }
	run("-d", "--name", "web", "-p", "7", "-p", "7/udp", "-p", "127.0.0.1::8", "-p", "[::1]::9", image, "sleep", "1000")
	run("-d", "--name", "none", "--network", "none", image, "sleep", "1000")
	run("-dit", "--name", "term", image, "sh")
	run("-d", "--name", "stays", "--rm", image, "sleep", "1000")
	run("-d", "--name", "again", "--restart", "always", image, "sh", "-c", "[ -e /tmp/x ] || { touch /tmp/x; exit 1; }; sleep 1000")
	run("-d", "--name", "frozen", image, "sleep", "1000")
	run("-d", "--name", "busy", image, "sleep", "1000")
	run("-d", "--name", "ticker", image, "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); usleep 20000; done")
	e.Must("create", "--name", "talks", "-i", image, "sh", "-c", "while read x; do echo got $x; done; exit 9")
	e.Must("create", "--name", "new", "-v", w.sign+":/sign", image, "sh", "-c", "exit 4")
	e.Must("pause", "frozen")
	e.Must("exec", "-d", "busy", "sleep", "4321")
	w.talk(t, "first", "start", "-ai", "talks")
	eventually(t, "the policy has restarted its container once", func() bool { in := inspect(t, e, "again"); return in.RestartCount == 1 && in.State.Running })
	w.serve(t)
	return w
}

// serve has the ports of web answered by the test, in its network namespace, and asks.
func (w *world) serve(t *testing.T) {
	echoIn(t, inspect(t, w.Engine, "web").State.Pid, "7", "8", "9")
	host := w.Subnet + ".1"
	tcp, udp := port(t, w.Engine, "web", "7/tcp"), port(t, w.Engine, "web", "7/udp")
	w.prober = probe(
		[2]string{"tcp", "127.0.0.1:" + tcp}, [2]string{"tcp", "[::1]:" + tcp}, [2]string{"tcp", host + ":" + tcp},
		[2]string{"udp", "127.0.0.1:" + udp}, [2]string{"udp", "[::1]:" + udp}, [2]string{"udp", host + ":" + udp},
		[2]string{"tcp", "127.0.0.1:" + port(t, w.Engine, "web", "8/tcp")},
		[2]string{"tcp", "[::1]:" + port(t, w.Engine, "web", "9/tcp")},
	)
}

// mortals are containers that end while the daemon is away: they wait for the sign.
func (w *world) mortals(t *testing.T, sign string) {
	wait := "while [ ! -e /sign/" + sign + " ]; do usleep 20000; done; "
	run := func(name, script string, flags ...string) {
		args := append([]string{"run", "-d", "-v", w.sign + ":/sign", "--name", name}, flags...)
		w.Must(append(args, image, "sh", "-c", script)...)
	}
	run("three", "echo one; "+wait+"echo two; exit 3")
	run("oom", wait+"exec tail /dev/zero", "-m", "16m", "--memory-swap", "16m")
	run("vanishes", wait+"exit 1", "--rm")
	again := "echo run; [ -e /tmp/x ] && exec sleep 1000; touch /tmp/x; " + wait + "exit "
	run("always", again+"0", "--restart", "always")
	run("unless", again+"0", "--restart", "unless-stopped")
	run("failed", again+"5", "--restart", "on-failure:3")
	run("fine", again+"0", "--restart", "on-failure:3")
	run("later", "while [ ! -e /tmp/end ]; do usleep 20000; done; exit 7", "--network", "none")
	run("downalways", "sleep 1000", "--restart", "always", "--network", "none")
	run("downunless", "sleep 1000", "--restart", "unless-stopped", "--network", "none")
	w.Must("stop", "-t", "0", "downalways", "downunless")
}

// let gives the sign and waits until those that wait for it have ended.
func (w *world) let(t *testing.T, sign string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.sign, sign), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody waits for the sign", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range all {
			raw, _ := os.ReadFile(p)
			if strings.Contains(string(raw), "/sign/"+sign+" ]") || strings.HasPrefix(string(raw), "tail\x00/dev/zero") {
				return false
			}
		}
		return true
	})
}

func (w *world) checkMortals(t *testing.T, sign string) {
	for name, code := range map[string]int{"three": 3, "oom": 137, "fine": 0} {
		in := inspect(t, w.Engine, name)
		if in.State.Status != "exited" || in.State.ExitCode != code || in.State.OOMKilled != (name == "oom") || in.State.Pid != 0 {
			t.Errorf("%s: %+v", name, in.State)
		}
		if at, err := time.Parse(time.RFC3339Nano, in.State.FinishedAt); err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
			t.Errorf("%s finished at %s", name, in.State.FinishedAt)
		}
		if got := w.Must("wait", name); got != itoa(code) {
			t.Errorf("wait %s: %s", name, got)
		}
	}
	if got := w.Must("logs", "three"); got != "one\ntwo" {
		t.Errorf("logs of three: %q", got)
	}
	for _, name := range []string{"always", "unless", "failed"} {
		eventually(t, name+" runs again", func() bool { return status(w.Engine, name) == "running" })
		eventually(t, name+" has logged both runs", func() bool { return w.Must("logs", name) == "run\nrun" })
		if in := inspect(t, w.Engine, name); in.RestartCount != 1 {
			t.Errorf("%s has been restarted %d times", name, in.RestartCount)
		}
	}
	eventually(t, "always starts with the daemon", func() bool { return status(w.Engine, "downalways") == "running" })
	if s := status(w.Engine, "downunless"); s != "exited" {
		t.Errorf("the one that the user had stopped is %s", s)
	}
	eventually(t, "what removes itself has gone", func() bool { return w.Docker("inspect", "vanishes").Code != 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	waits := w.Cmd(ctx, "wait", "later")
	code := make(chan string)
	go func() { out, err := waits.Output(); code <- fmt.Sprintf("%s%v", out, err) }()
	w.Must("exec", "-d", "later", "touch", "/tmp/end") // whose end its container does not await
	if got := <-code; got != "7\n<nil>" {
		t.Errorf("wait later: %s", got)
	}
	w.Must("rm", "-f", "three", "oom", "fine", "always", "unless", "failed", "later", "downalways", "downunless")
}

// states are what must be the same afterwards.
func (w *world) states(t *testing.T) map[string]string {
	all := map[string]string{}
	for _, name := range append([]string{"new"}, survivors...) {
		in := inspect(t, w.Engine, name)
		raw, err := json.Marshal([]any{in.ID, in.State, in.RestartCount, in.NetworkSettings, in.Mounts, in.Config, in.HostConfig})
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(raw)
	}
	return all
}

func (w *world) same(t *testing.T, before map[string]string) {
	after := w.states(t)
	for name, was := range before {
		if after[name] != was {
			t.Errorf("%s was\n%s\nand is\n%s", name, was, after[name])
		}
	}
	for name, want := range map[string]string{"frozen": "paused", "new": "created", "web": "running", "stays": "running"} {
		if s := status(w.Engine, name); s != want {
			t.Errorf("%s is %s", name, s)
		}
	}
}

// lookAway starts a client that follows the log of ticker, and the daemon's end cuts off.
func (w *world) lookAway(t *testing.T) {
	args := []string{"logs", "-f", "-t", "--since", "1m", "ticker"}
	if w.last != "" {
		args[4], _, _ = strings.Cut(w.last, " ")
	}
	w.follow = w.Cmd(w.ctx, args...)
	out, err := w.follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.follow.Start(); err != nil {
		t.Fatal(err)
	}
	w.seen.read(out)
	eventually(t, "the log is followed", func() bool { return w.seen.len() > 10 })
}

// comeBack waits for the clients that the daemon's end has cut off.
func (w *world) comeBack(t *testing.T) {
	done := make(chan struct{})
	go func() {
		w.seen.wait()
		w.follow.Wait() // the daemon has gone: whatever it says
		w.heard.wait()
		w.attached.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a client does not notice that the daemon has gone")
	}
	w.last = w.seen.end()
}

// checkFollow takes the log up where the client was cut off, with --since.
func (w *world) checkFollow(t *testing.T) {
	was := w.last
	w.lookAway(t)
	w.follow.Process.Kill()
	w.seen.wait()
	w.follow.Wait()
	lines := w.seen.all()
	if lines[0] != was {
		t.Errorf("the log was followed to %q and goes on with %q", was, lines[0])
	}
	for i := 1; i < len(lines); i++ {
		if number(lines[i]) != number(lines[i-1])+1 {
			t.Fatalf("%q is followed by %q", lines[i-1], lines[i])
		}
	}
}

func number(line string) int {
	_, text, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1 << 30
	}
	return n
}

// checkUse does with the survivors what can be done with a container.
func (w *world) checkUse(t *testing.T) {
	if got := w.Must("exec", "web", "echo", "alive"); got != "alive" {
		t.Errorf("exec: %q", got)
	}
	if got := w.Must("top", "busy"); !strings.Contains(got, "sleep 1000") || !strings.Contains(got, "sleep 4321") {
		t.Errorf("top: %s", got)
	}
	if got := w.Must("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "busy"); got != "busy 2" {
		t.Errorf("stats: %q", got)
	}
	if got := w.Must("port", "web", "7/udp"); !strings.HasPrefix(got, "0.0.0.0:") {
		t.Errorf("port: %q", got)
	}
	if out, _ := tty(t, w.Engine, "echo $((6*7))x\n\x00\x10\x11", "attach", "term"); !strings.Contains(out, "42x") {
		t.Errorf("attach to the terminal: %q", out)
	}
	w.atHome(t)
	w.Must("unpause", "frozen")
	w.Must("pause", "frozen")
	w.talk(t, "more", "attach", "--sig-proxy=false", "talks")
}

// atHome: the daemon's first thread is in no container's namespace, which would last as
// long as the daemon.
func (w *world) atHome(t *testing.T) {
	for _, ns := range []string{"net", "mnt"} {
		theirs, err := os.Readlink(filepath.Join("/proc", itoa(w.PID()), "ns", ns))
		ours, oerr := os.Readlink("/proc/thread-self/ns/" + ns)
		if err != nil || oerr != nil || theirs != ours {
			t.Errorf("the daemon is in %s, %v; the test in %s, %v", theirs, err, ours, oerr)
		}
	}
}

// talk runs a client on the container that listens, which has not seen the end of its
// input, whatever became of the client before.
func (w *world) talk(t *testing.T, word string, args ...string) {
	w.attached = w.Cmd(w.ctx, args...)
	var err error
	if w.stdin, err = w.attached.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.attached.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.attached.Start(); err != nil {
		t.Fatal(err)
	}
	w.heard.read(out)
	io.WriteString(w.stdin, word+"\n")
	eventually(t, "the attached one has heard "+word, func() bool { return w.heard.end() == "got "+word })
}

// checkEnds ends the survivors in every way there is.
func (w *world) checkEnds(t *testing.T) {
	e := w.Engine
	e.Must("stop", "-t", "0", "ticker")
	for i, line := range strings.Split(e.Must("logs", "ticker"), "\n") {
		if line != itoa(i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
	e.Must("start", "new")
	eventually(t, "the one that was never started has run", func() bool { return inspect(t, e, "new").State.ExitCode == 4 })
	e.Must("kill", "-s", "KILL", "none")
	eventually(t, "the killed one has ended", func() bool { return inspect(t, e, "none").State.ExitCode == 137 })
	e.Must("stop", "-t", "0", "again", "stays")
	if s := status(e, "again"); s != "exited" {
		t.Errorf("the stopped one is %s", s)
	}
	eventually(t, "what removes itself has gone", func() bool { return e.Docker("inspect", "stays").Code != 0 })
	w.stdin.Close()
	w.heard.wait()
	if err := w.attached.Wait(); w.attached.ProcessState.ExitCode() != 9 {
		t.Errorf("the end of the input: %v", err)
	}
	e.Must("rm", "-f", "web")
	e.Must("rm", "-f", "frozen", "busy")
	if in := inspect(t, e, "talks"); in.State.Status != string(containertypes.StateExited) {
		t.Errorf("talks: %+v", in.State)
	}
}
