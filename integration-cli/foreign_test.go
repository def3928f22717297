package integrationcli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// foreignRuntimes is a configuration with containerd's own shim as a runtime.
const foreignRuntimes = `{"runtimes":{"` + leak.ForeignRuntime + `":{"runtimeType":"io.containerd.runc.v2"}}}`

// foreign is an engine that has it.
func foreign(t *testing.T) *engine.Engine {
	t.Helper()
	need.Command(t, "containerd-shim-runc-v2")
	need.Command(t, "runc")
	config := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(config, []byte(foreignRuntimes), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "--config-file", config, "--default-runtime", leak.ForeignRuntime)
}

// TestForeignStreams: under another's shim streams are as under ours.
func TestForeignStreams(t *testing.T) {
	t.Parallel()
	e := foreign(t)
	inTurn(t, e, []row{
		{name: "output", args: []string{"run", "--name", "out", image, "sh", "-c", "echo out; echo err >&2; exit 3"}, code: 3, out: "out", err: "err"},
		{name: "kept", args: []string{"logs", "out"}, out: "out", err: "err"},
		{name: "stdin", args: []string{"run", "--rm", "-i", image, "sh", "-c", "cat; echo eof"}, stdin: "a\nb\n", out: "a\nb\neof"},
		{name: "no log", args: []string{"run", "--rm", "--log-driver", "none", image, "echo", "seen"}, out: "seen"},
		{name: "quick", args: []string{"run", "--rm", image, "true"}},
		{name: "no such command", args: []string{"run", "--rm", image, "nope"}, code: 127},
	})
	in := strings.Repeat("some text on its way\n", 50_000)
	if got := e.DockerIn(in, "run", "--name", "big", "-i", image, "cat"); got.Stdout != in {
		t.Errorf("through cat: %d bytes, want %d: %s", len(got.Stdout), len(in), got.Stderr)
	}
	if got := e.Docker("logs", "big").Stdout; got != in {
		t.Errorf("logs: %d bytes, want %d", len(got), len(in))
	}
	e.Must("run", "-d", "-i", "--name", "c1", image, "sh", "-c", "while read x; do echo got $x; done")
	inTurn(t, e, []row{
		{name: "exec", args: []string{"exec", "c1", "sh", "-c", "echo o; echo e >&2; exit 4"}, code: 4, out: "o", err: "e"},
		{name: "exec stdin", args: []string{"exec", "-i", "c1", "cat"}, stdin: "x\ny\n", out: "x\ny"},
		{name: "exec not found", args: []string{"exec", "c1", "nope"}, code: 127},
		{name: "detached exec", args: []string{"exec", "-d", "c1", "sh", "-c", "echo done >/tmp/mark"}},
	})
	eventually(t, "the detached exec has run", func() bool { return e.Docker("exec", "c1", "cat", "/tmp/mark").Stdout == "done\n" })
	for _, line := range []string{"one", "two"} { // two clients, one after the other
		c := attach(t, e, "c1", "stream=1&stdin=1&stdout=1")
		c.write(line + "\n")
		if got := c.line(); got != "got "+line {
			t.Errorf("attached got %q", got)
		}
		c.close()
	}
	left, _ := filepath.Glob(filepath.Join(e.Dir, "exec/io/*.fifos/*.[012]"))
	if len(left) != 3 {
		t.Errorf("fifos of execs are left: %s", left)
	}
	e.Must("rm", "-f", "c1")
	out, code := tty(t, e, "echo $((6*7))\ntty\nexit 4\n", "run", "--rm", "-it", image)
	if code != 4 || !strings.Contains(out, "42") || !strings.Contains(out, "/dev/pts/0") {
		t.Errorf("run -it: exit %d, %q", code, out)
	}
	out, code = tty(t, e, "echo before\n\x00\x10\x11", "run", "-it", "--name", "d1", image)
	if code != 0 || !strings.Contains(out, "before") || status(e, "d1") != "running" {
		t.Errorf("detached: exit %d, %s, %q", code, status(e, "d1"), out)
	}
	out, code = tty(t, e, "tty\nexit 5\n", "exec", "-it", "d1", "sh")
	if code != 5 || !strings.Contains(out, "/dev/pts/") {
		t.Errorf("exec -it: exit %d, %q", code, out)
	}
	e.Place().Agree(t)
}

// TestForeignDeaths kills the engine and the keeper under a container that writes: it
// goes on, and every line is there once, but for the line that a killed keeper had begun.
func TestForeignDeaths(t *testing.T) {
	t.Parallel()
	e := foreign(t)
	lines := scale(500_000, 20_000)
	id := e.Must("run", "-d", "--name", "w1", image, "sh", "-c",
		fmt.Sprintf(`awk -v n=%d 'BEGIN { for (i = 0; i < n; i++) printf "%%099d\n", i }'; read x </dev/zero; exit 5`, lines))
	e.Must("run", "-d", "--name", "gone", image, "sh", "-c", "sleep 1; echo last; exit 7")
	for range 3 {
		time.Sleep(200 * time.Millisecond)
		e.Kill()
		time.Sleep(300 * time.Millisecond)
		e.Launch()
	}
	if got := e.Must("wait", "gone"); got != "7" {
		t.Errorf("ended while there was no engine: %s", got)
	}
	if got := e.Must("logs", "gone"); got != "last" {
		t.Errorf("said while there was no engine: %q", got)
	}
	eventually(t, "all is written", func() bool {
		return strings.HasSuffix(e.Docker("logs", "--tail", "1", "w1").Stdout, fmt.Sprintf("%099d\n", lines-1))
	})
	body, err := open(e, "GET", "/containers/"+id+"/logs?stdout=1")
	if err != nil {
		t.Fatal(err)
	}
	if err := numbered(body, lines, 0); err != nil {
		t.Error(err)
	}
	e.Must("rm", "-f", "w1")
	// Now the keeper.
	id = e.Must("run", "-d", "-i", "--name", "k1", image, "sh", "-c", "while read x; do echo got $x; done")
	for i := range 2 { // the one of this engine, and one that it finds
		old := keeperOf(t, id)
		syscall.Kill(old, syscall.SIGKILL)
		eventually(t, "there is another keeper", func() bool { return keeperOf(t, id) != old })
		c := attach(t, e, "k1", "stream=1&stdin=1&stdout=1")
		c.write(strconv.Itoa(i) + "\n")
		if got := c.line(); got != "got "+strconv.Itoa(i) {
			t.Errorf("by another keeper: %q", got)
		}
		c.close()
		e.Kill()
		e.Launch()
	}
	if got := e.Must("logs", "k1"); got != "got 0\ngot 1" {
		t.Errorf("logs %q", got)
	}
	e.Must("stop", "-t", "0", "k1")
	e.Must("start", "k1")
	if !e.Place().Agree(t) {
		t.Log(e.Log())
	}
}

// inTurn is run for rows that build on each other.
func inTurn(t *testing.T, e *engine.Engine, rows []row) {
	t.Helper()
	for _, r := range rows {
		got := e.DockerIn(r.stdin, r.args...)
		if got.Code != r.code {
			t.Errorf("%s: exit %d, want %d: %s", r.name, got.Code, r.code, got.Stderr)
		}
		compare(t, r.name+": stdout", got.Stdout, r.out)
		compare(t, r.name+": stderr", got.Stderr, r.err)
	}
}

// keeperOf is the pid of a container's keeper.
func keeperOf(t *testing.T, id string) (pid int) {
	t.Helper()
	eventually(t, "there is a keeper", func() bool {
		found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range found {
			raw, _ := os.ReadFile(f)
			if cmd := string(raw); strings.HasSuffix(cmd, "\x00keep\x00") && strings.Contains(cmd, "\x00"+id+"\x00") {
				pid, _ = strconv.Atoi(strings.Split(f, "/")[2])
				return true
			}
		}
		return false
	})
	return pid
}

// liveForeign is life under another's shim.
func (s *site) liveForeign() error { return s.liveUnder(leak.ForeignRuntime, foreignRuntimes) }

// liveStarted is life under a shim of ours that the core takes for another's, since it is
// not beside it.
func (s *site) liveStarted() error {
	path := filepath.Join(s.e.Dir, "containerd-shim-gantry-v2")
	if err := os.Symlink(s.ourShim, path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return s.liveUnder(leak.StartedRuntime, fmt.Sprintf(`{"runtimes":{%q:{"runtimeType":%q}}}`, leak.StartedRuntime, path))
}

func (s *site) liveUnder(runtime, runtimes string) error {
	config := filepath.Join(s.e.Dir, "daemon.json")
	s.e.Docker("info") // when it answers the engine is up, and hears of the change
	if err := os.WriteFile(config, []byte(runtimes), 0o600); err != nil {
		return err
	}
	if err := syscall.Kill(s.e.PID(), syscall.SIGHUP); err != nil {
		return err
	}
	if !becomesTrue(10*time.Second, func() bool {
		return strings.Contains(s.e.Docker("info", "-f", "{{.Runtimes}}").Stdout, runtime)
	}) {
		return fmt.Errorf("no runtime %s", runtime)
	}
	return s.life(object{
		"Image": image, "Cmd": []string{"sleep", "1000"},
		"HostConfig": object{"NetworkMode": "none", "Runtime": runtime},
	})
}
