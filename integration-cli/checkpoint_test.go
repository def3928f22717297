package integrationcli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// dumper is a runtime in which a checkpoint holds nothing but the container's id, since
// CRIU does not work with every kernel: what is tested is the engine around it. What is
// restored begins anew and finds the file /restored. contrib/vm has the real thing.
const dumper = `#!/bin/sh
for a; do
	case $prev in
	--root) root=$a ;;
	--log) log=$a ;;
	--image-path) images=$a ;;
	--bundle) bundle=$a ;;
	--pid-file) pid=$a ;;
	--console-socket) console=$a ;;
	esac
	case $a in
	checkpoint | restore) verb=$a ;;
	--leave-running) stay=1 ;;
	esac
	prev=$a
done
id=$a
fail() { echo '{"level":"error","msg":"'"$*"'"}' >>"$log"; exit 1; }
case $verb in
checkpoint)
	[ ! -e %[1]s/fail ] || fail criu failed
	echo $id >"$images/inventory.img"
	[ -n "$stay" ] || exec %[2]s --root "$root" kill $id KILL
	;;
restore)
	[ -e "$images/inventory.img" ] || fail no images
	cp "$images/inventory.img" "$bundle/rootfs/restored"
	exec %[2]s --root "$root" run --detach --bundle "$bundle" --pid-file "$pid" ${console:+--console-socket "$console"} $id
	;;
*) exec %[2]s "$@" ;;
esac
`

func startDumping(t *testing.T) (e *engine.Engine, dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "dumper")
	if err := os.WriteFile(path, fmt.Appendf(nil, dumper, dir, engine.Binary(t, "grun")), 0o755); err != nil {
		t.Fatal(err)
	}
	return start(t, "--experimental", "--add-runtime", "dumper="+path, "--default-runtime", "dumper"), dir
}

// restorable says what it is, and echoes until it is told to end.
const restorable = `[ -e /restored ] && echo restored || echo fresh; while read -r x; do [ "$x" = end ] && exit 3; echo "got $x"; done; sleep 1000`

// rows is run for containers that stay.
func rows(t *testing.T, e *engine.Engine, rows []row) {
	t.Helper()
	for _, r := range rows {
		got := e.DockerIn(r.stdin, r.args...)
		if got.Code != r.code {
			t.Errorf("%s: exit %d, want %d", r.name, got.Code, r.code)
		}
		compare(t, r.name+": stdout", got.Stdout, r.out)
		compare(t, r.name+": stderr", got.Stderr, r.err)
	}
}

// say has a client say a line to a container until its log has what it is to answer.
func say(t *testing.T, e *engine.Engine, name, line, want string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := e.Cmd(ctx, "attach", "--sig-proxy=false", name)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		cmd.Wait() //nolint:errcheck // it was killed
	}()
	fmt.Fprintln(in, line)
	eventually(t, name+" answers", func() bool { return strings.Contains(e.Must("logs", name), want) })
}

func stateOf(e *engine.Engine, name string) string {
	return strings.TrimSpace(e.Must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", name))
}

func TestCheckpoint(t *testing.T) {
	e, dir := startDumping(t)
	e.Must("run", "-di", "--name", "web", "--restart", "on-failure", "-p", "127.0.0.1::80", image, "sh", "-c", restorable)
	elsewhere := filepath.Join(dir, "elsewhere")
	rows(t, e, []row{
		{name: "leave running", args: []string{"checkpoint", "create", "--leave-running", "web", "on1"}, out: "on1"},
		{name: "taken", args: []string{"checkpoint", "create", "web", "on1"}, code: 1, err: "…checkpoint with name on1 already exists for container web"},
		{name: "bad name", args: []string{"checkpoint", "create", "web", "a/b"}, code: 1, err: "…Invalid checkpoint ID (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{name: "elsewhere", args: []string{"checkpoint", "create", "--leave-running", "--checkpoint-dir", elsewhere, "web", "there"}, out: "there"},
		{name: "list", args: []string{"checkpoint", "ls", "web"}, out: "CHECKPOINT NAME\non1"},
		{name: "list elsewhere", args: []string{"checkpoint", "ls", "--checkpoint-dir", elsewhere, "web"}, out: "CHECKPOINT NAME\nthere"},
		{name: "of nothing", args: []string{"checkpoint", "create", "nope", "x1"}, code: 1, err: "…No such container: nope"},
	})
	if got := stateOf(e, "web"); got != "running 0 0" {
		t.Errorf("left running: %s", got)
	}
	e.Must("checkpoint", "create", "web", "off1")
	if got := stateOf(e, "web"); got != "exited 137 0" {
		t.Errorf("after its checkpoint: %s", got)
	}
	rows(t, e, []row{
		{name: "not running", args: []string{"checkpoint", "create", "web", "x1"}, code: 1, err: "…is not running"},
		{name: "unknown", args: []string{"start", "--checkpoint", "x1", "web"}, code: 1, err: "…checkpoint x1 does not exist for container web…"},
		{name: "way out", args: []string{"start", "--checkpoint", "../checkpoints/off1", "web"}, code: 1, err: "…Invalid checkpoint ID (../checkpoints/off1)…"},
		{name: "restore", args: []string{"start", "--checkpoint", "off1", "web"}, out: "-"},
		{name: "running", args: []string{"start", "--checkpoint", "off1", "web"}, out: "-"},
	})
	say(t, e, "web", "a", "got a")
	rows(t, e, []row{
		{name: "logs", args: []string{"logs", "web"}, out: "fresh\nrestored\ngot a"},
		{name: "exec", args: []string{"exec", "web", "cat", "/restored"}, out: strings.TrimSpace(e.Must("inspect", "-f", "{{.Id}}", "web"))},
		{name: "port", args: []string{"port", "web"}, out: "80/tcp -> 127.0.0.1:…"},
		{name: "pause", args: []string{"pause", "web"}},
		{name: "unpause", args: []string{"unpause", "web"}},
	})
	e.Kill()
	e.Launch()
	if got := stateOf(e, "web"); got != "running 0 0" {
		t.Errorf("under another engine: %s", got)
	}
	say(t, e, "web", "end", "restored\ngot a\nrestored") // by its policy
	if got := stateOf(e, "web"); got != "running 0 1" {
		t.Errorf("after its end: %s", got)
	}
	e.Must("stop", "-t", "0", "web")
	rows(t, e, []row{
		{name: "restore from elsewhere", args: []string{"start", "--checkpoint", "there", "--checkpoint-dir", elsewhere, "web"}, out: "-"},
		{name: "rm", args: []string{"checkpoint", "rm", "web", "on1"}},
		{name: "rm again", args: []string{"checkpoint", "rm", "web", "on1"}, code: 1, err: "…checkpoint on1 does not exist for container web"},
		{name: "list", args: []string{"checkpoint", "ls", "web"}, out: "CHECKPOINT NAME\noff1"},
		{name: "rm container", args: []string{"rm", "-f", "web"}, out: "web"},
	})
	if left, _ := filepath.Glob(filepath.Join(e.Dir, "data/containers/*/checkpoints/*")); len(left) > 0 {
		t.Errorf("checkpoints left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "there", "inventory.img")); err != nil {
		t.Error("one elsewhere goes with the container:", err)
	}
	if got := e.Must("events", "--since", "1h", "--until", "0s", "--filter", "event=checkpoint", "--format", "{{.Action}}"); strings.Count(got, "checkpoint") != 3 {
		t.Errorf("events: %s", got)
	}
	e.Clean(t)
}

// TestCheckpointTerminal restores what has a terminal.
func TestCheckpointTerminal(t *testing.T) {
	e, _ := startDumping(t)
	e.Must("run", "-dit", "--name", "web", image, "sh", "-c", restorable)
	e.Must("checkpoint", "create", "web", "c1")
	e.Must("start", "--checkpoint", "c1", "web")
	eventually(t, "its log", func() bool { return strings.Contains(e.Must("logs", "web"), "restored") })
	if got := e.Must("exec", "web", "sh", "-c", "[ -t 0 ] </proc/1/fd/0 && echo terminal"); strings.TrimSpace(got) != "terminal" {
		t.Errorf("stdin: %s", got)
	}
	e.Must("rm", "-f", "web")
	e.Clean(t)
}

// TestCheckpointFails: a failure leaves nothing, and what ran runs on.
func TestCheckpointFails(t *testing.T) {
	e, dir := startDumping(t)
	e.Must("run", "-d", "--name", "web", image, "sleep", "1000")
	e.Must("run", "-d", "--rm", "--name", "brief", image, "sleep", "1000")
	fail := filepath.Join(dir, "fail")
	if err := os.WriteFile(fail, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rows(t, e, []row{
		{name: "dump", args: []string{"checkpoint", "create", "web", "c1"}, code: 1, err: "…Cannot checkpoint container web: criu failed…"},
		{name: "nothing", args: []string{"checkpoint", "ls", "web"}, out: "CHECKPOINT NAME"},
		{name: "of what goes", args: []string{"checkpoint", "create", "brief", "c1"}, code: 1, err: "…it would be removed with its checkpoint…"},
	})
	if got := stateOf(e, "web"); got != "running 0 0" {
		t.Errorf("after a failed dump: %s", got)
	}
	os.Remove(fail)
	e.Must("checkpoint", "create", "web", "c1")
	images, _ := filepath.Glob(filepath.Join(e.Dir, "data/containers/*/checkpoints/c1/inventory.img"))
	if len(images) != 1 {
		t.Fatalf("images: %v", images)
	}
	os.Remove(images[0])
	rows(t, e, []row{
		{name: "restore", args: []string{"start", "--checkpoint", "c1", "web"}, code: 1, err: "…failed to create task for container: OCI runtime restore failed: no images…"},
		{name: "start", args: []string{"start", "web"}, out: "web"},
		{name: "rm", args: []string{"rm", "-f", "web", "brief"}},
	})
	e.Clean(t)
}

func TestCheckpointNotExperimental(t *testing.T) {
	e := start(t)
	e.Must("create", "--name", "web", image, "true")
	const off = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{http.MethodGet, "/containers/web/checkpoints", 501, off},
		{http.MethodPost, "/containers/web/checkpoints", 501, off},
		{http.MethodDelete, "/containers/web/checkpoints/x", 501, off},
		{http.MethodPost, "/containers/web/start?checkpoint=x", 400, "checkpoint is only supported in experimental mode"},
		{http.MethodPost, "/containers/web/start?checkpoint-dir=/x", 403, "custom checkpointdir is not supported"},
	} {
		status, body, err := ask(e, c.method, c.path, nil)
		if err != nil || status != c.status || !strings.Contains(body, c.text) {
			t.Errorf("%s %s: %d %s %v", c.method, c.path, status, body, err)
		}
	}
	e.Must("rm", "web")
	e.Clean(t)
}
