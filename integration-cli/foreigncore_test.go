package integrationcli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// onContainerd is an engine on a containerd of its own, with the test image: on the one
// that the environment names, or the machine's.
func onContainerd(t *testing.T, args ...string) *engine.Engine {
	t.Helper()
	kind := engine.OnCore()
	if kind == "" {
		need.Command(t, "containerd")
		kind = "containerd"
	}
	e := engine.StartOn(t, kind, args...)
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	return e
}

// TestForeignCore is a little of everything that containers and images are for, with the
// engine on a containerd.
func TestForeignCore(t *testing.T) {
	e := onContainerd(t)
	if got := e.Must("info", "--format", "{{.Containerd.Address}} {{.Containerd.Namespaces.Containers}} {{.Driver}}"); got != e.CoreSocket()+" moby overlayfs" {
		t.Errorf("info: %s", got)
	}
	if got := e.Must("version", "--format", "{{range .Server.Components}}{{.Name}} {{.Version}},{{end}}"); !strings.Contains(got, ",containerd ") || strings.Contains(got, ",containerd ,") {
		t.Errorf("version: %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(e.Dir, "exec/core/*/boot.db")); len(left) > 0 && engine.OnCore() != "gantryd" {
		t.Errorf("databases of a core that there is not: %s", left)
	}
	inTurn(t, e, []row{
		{name: "run", args: []string{"run", "--name", "out", image, "sh", "-c", "echo out; echo err >&2; exit 3"}, code: 3, out: "out", err: "err"},
		{name: "logs", args: []string{"logs", "out"}, out: "out", err: "err"},
		{name: "stdin", args: []string{"run", "--rm", "-i", image, "sh", "-c", "cat; echo eof"}, stdin: "a\nb\n", out: "a\nb\neof"},
		{name: "no such command", args: []string{"run", "--rm", image, "nope"}, code: 127, err: "…executable file not found…"},
		{name: "limits", args: []string{"run", "--rm", "-m", "64m", image, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}, out: "67108864"},
		{name: "read-only", args: []string{"run", "--rm", "--read-only", image, "touch", "/x"}, code: 1},
		{name: "volume", args: []string{"run", "--rm", "-v", "vol:/v", image, "sh", "-c", "echo kept >/v/x"}},
		{name: "kept", args: []string{"run", "--rm", "-v", "vol:/v", image, "cat", "/v/x"}, out: "kept"},
		{name: "init", args: []string{"run", "--rm", "--init", image, "cat", "/proc/1/cmdline"}, out: "…init…"},
		{name: "lack of memory", args: []string{"run", "--name", "oom", "-m", "16m", "--memory-swap", "16m", image, "tail", "/dev/zero"}, code: 137},
		{name: "told so", args: []string{"inspect", "--format", "{{.State.OOMKilled}}", "oom"}, out: "true"},
	})
	id := e.Must("run", "-dit", "--name", "c1", "-p", "7", image)
	inTurn(t, e, []row{
		{name: "exec", args: []string{"exec", "-i", "c1", "sh", "-c", "cat; exit 4"}, stdin: "x\n", code: 4, out: "x"},
		{name: "change", args: []string{"exec", "c1", "touch", "/new"}},
		{name: "diff", args: []string{"diff", "c1"}, out: "…A /new…"},
		{name: "commit", args: []string{"commit", "c1", "made"}},
		{name: "of it", args: []string{"run", "--rm", "made", "ls", "/new"}, out: "/new"},
		{name: "update", args: []string{"update", "-m", "96m", "--memory-swap", "96m", "c1"}},
		{name: "pause", args: []string{"pause", "c1"}},
		{name: "paused", args: []string{"inspect", "--format", "{{.State.Status}}", "c1"}, out: "paused"},
		{name: "unpause", args: []string{"unpause", "c1"}},
		{name: "top", args: []string{"top", "c1"}, out: "…sh…"},
		{name: "stats", args: []string{"stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "c1"}, out: "c1 1"},
		{name: "size", args: []string{"ps", "--filter", "name=c1", "--size", "--format", "{{.Size}}"}, out: "…virtual…"},
		{name: "df", args: []string{"system", "df", "-v"}, out: "…c1…"},
		{name: "copy in", args: []string{"cp", "-", "c1:/tmp"}, stdin: string(tarOf(map[string][]byte{"f": []byte("copied")}))},
		{name: "there", args: []string{"exec", "c1", "cat", "/tmp/f"}, out: "copied"},
		{name: "restart", args: []string{"restart", "-t", "0", "c1"}},
		{name: "still there", args: []string{"exec", "c1", "ls", "/new"}, out: "/new"},
		{name: "stop", args: []string{"stop", "-t", "0", "c1"}},
		{name: "in use", args: []string{"rmi", "made", image}, code: 1},
		{name: "rm", args: []string{"rm", "out", "oom", "c1"}},
		{name: "prune", args: []string{"system", "prune", "-f"}},
	})
	if out, code := tty(t, e, "echo $((6*7))\nexit 4\n", "run", "--rm", "-it", image); code != 4 || !strings.Contains(out, "42") {
		t.Errorf("run -it: exit %d, %q", code, out)
	}
	events := e.Must("events", "--since", "1h", "--until", "0s", "--filter", "container="+id, "--format", "{{.Action}}")
	for _, want := range []string{"create", "start", "pause", "unpause", "restart", "die", "stop", "destroy"} {
		if !strings.Contains("\n"+events+"\n", "\n"+want+"\n") {
			t.Errorf("no event %s in\n%s", want, events)
		}
	}
	saved := e.Docker("save", image)
	e.Must("rmi", image)
	e.Load([]byte(saved.Stdout))
	e.Must("run", "--rm", image, "true")
	e.Must("volume", "rm", "vol")
	e.Place().Agree(t)
}

// TestForeignCoreMayDie ends the containerd that the engine is on, by force and by its
// signal, alone and with the engine: what runs runs on, is followed and attached to without
// a break, and what has ended meanwhile is known when it is back.
func TestForeignCoreMayDie(t *testing.T) {
	e := onContainerd(t)
	w := newWorld(t, e)
	ends := []struct {
		name       string
		sig        syscall.Signal
		withEngine bool
	}{{"kill", syscall.SIGKILL, false}, {"both", syscall.SIGKILL, true}, {"terminate", syscall.SIGTERM, false}}
	for _, end := range ends[:scale(3, 2)] {
		t.Run(end.name, func(t *testing.T) {
			w.mortals(t, end.name)
			before := w.states(t)
			w.lookAway(t)
			if end.withEngine {
				e.Kill()
				w.comeBack(t)
			}
			e.StopCore(end.sig)
			if !end.withEngine {
				w.withoutCore(t)
			}
			w.let(t, end.name)
			e.StartCore()
			if end.withEngine {
				e.Launch()
			} else {
				w.onGoing(t)
			}
			eventually(t, "the core is back", func() bool { return e.Docker("exec", "web", "true").Code == 0 })
			eventually(t, "exits are known", func() bool {
				return status(e, "three") == "exited" && status(e, "oom") == "exited" && status(e, "fine") == "exited"
			})
			if !end.withEngine {
				w.Must("start", "downalways") // as the next engine would
			}
			w.same(t, before)
			w.checkMortals(t, end.name)
			w.checkUse(t)
			w.checkFollow(t)
		})
	}
	if tries, err := w.prober.end(); err != nil {
		t.Errorf("of %d times asked: %v", tries, err)
	}
	w.checkEnds(t)
}

// withoutCore is what an engine does whose core is away: what needs none goes on, and
// what does says so at once.
func (w *world) withoutCore(t *testing.T) {
	began := time.Now()
	if r := w.Docker("run", "--rm", image, "true"); r.Code != 125 || !strings.Contains(r.Stderr, "no core listens there") {
		t.Errorf("run without a core: exit %d, %s", r.Code, r.Stderr)
	}
	if r := w.Docker("exec", "web", "true"); r.Code == 0 {
		t.Error("exec without a core")
	}
	if s := status(w.Engine, "web"); s != "running" {
		t.Errorf("web is %s", s)
	}
	w.Must("ps", "-a")
	w.Must("info")
	w.Must("logs", "--tail", "1", "ticker")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("an engine without a core took %v", took)
	}
}

// onGoing: those who followed and were attached have noticed nothing.
func (w *world) onGoing(t *testing.T) {
	n := w.seen.len()
	eventually(t, "the log is followed on", func() bool { return w.seen.len() > n+10 })
	w.last = w.seen.end()
	w.follow.Process.Kill()
	w.seen.wait()
	w.follow.Wait()
}

// TestForeignCoreKeeper: a containerd that does not see our shim runs containers under
// runc's, and a keeper holds their streams.
func TestForeignCoreKeeper(t *testing.T) {
	need.Command(t, "runc")
	need.Command(t, "containerd-shim-runc-v2")
	e := engine.StartHidden(t, "containerd")
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	inTurn(t, e, []row{
		{name: "run", args: []string{"run", "--name", "out", image, "sh", "-c", "echo out; echo err >&2; exit 3"}, code: 3, out: "out", err: "err"},
		{name: "logs", args: []string{"logs", "out"}, out: "out", err: "err"},
		{name: "stdin", args: []string{"run", "--rm", "-i", image, "sh", "-c", "cat; echo eof"}, stdin: "a\nb\n", out: "a\nb\neof"},
		{name: "no such command", args: []string{"run", "--rm", image, "nope"}, code: 127},
		{name: "start", args: []string{"run", "-d", "--name", "c1", image, "sleep", "1000"}},
		{name: "exec", args: []string{"exec", "c1", "sh", "-c", "echo x; exit 4"}, code: 4, out: "x"},
		{name: "copy", args: []string{"cp", "-", "c1:/tmp"}, stdin: string(tarOf(map[string][]byte{"f": []byte("copied")}))},
		{name: "there", args: []string{"exec", "c1", "cat", "/tmp/f"}, out: "copied"},
		{name: "rm", args: []string{"rm", "-f", "out", "c1"}},
	})
}

// TestForeignCoreStuck: a containerd waits for a shim that does not answer as long as who
// asked it; the engine does not, and ends such a shim by KILL.
func TestForeignCoreStuck(t *testing.T) {
	t.Parallel()
	e := onContainerd(t)
	e.Must("run", "-d", "--name", "stuck", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "fine", image, "sleep", "1000")
	stopShim(t, e, "stuck")
	done := make(chan engine.Result, 1)
	go func() { done <- e.Docker("exec", "stuck", "true") }()
	if got := e.Must("exec", "fine", "echo", "quick"); got != "quick" {
		t.Errorf("beside it: %q", got)
	}
	e.Kill()
	<-done
	e.Launch()
	if s := status(e, "stuck"); s != "running" {
		t.Errorf("to the next engine it is %s", s)
	}
	e.Must("kill", "stuck")
	if in := inspect(t, e, "stuck"); in.State.ExitCode != 137 {
		t.Errorf("killed: %+v", in.State)
	}
	e.Must("start", "stuck")
	e.Must("rm", "-f", "stuck", "fine")
	e.Clean(t)
}

// TestForeignCoreAbsent: an engine waits for its core, and says which it waited for.
func TestForeignCoreAbsent(t *testing.T) {
	t.Parallel()
	e := engine.StartOn(t, "containerd")
	e.Terminate()
	e.StopCore(syscall.SIGTERM)
	late := make(chan struct{})
	go func() {
		defer close(late)
		time.Sleep(2 * time.Second)
		e.StartCore()
	}()
	e.Launch()
	<-late
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), engine.Binary(t, "gantryd"), "--data-root", filepath.Join(dir, "d"), "--exec-root", filepath.Join(dir, "x"),
		"-H", "unix://"+filepath.Join(dir, "s"), "-p", filepath.Join(dir, "p"), "--bridge", "none", "--containerd", filepath.Join(dir, "none.sock"))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "containerd at "+filepath.Join(dir, "none.sock")+" does not answer") {
		t.Errorf("without a core: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "p")); err == nil {
		t.Error("the pid file is left")
	}
}
