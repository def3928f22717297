package integrationcli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/internal/testutil/engine"
)

func inspect(t *testing.T, e *engine.Engine, ref string) containertypes.InspectResponse {
	t.Helper()
	var all []containertypes.InspectResponse
	if err := json.Unmarshal([]byte(e.Must("inspect", "--type", "container", ref)), &all); err != nil || len(all) != 1 {
		t.Fatalf("inspect %s: %v", ref, err)
	}
	return all[0]
}

func status(e *engine.Engine, ref string) string {
	return strings.TrimSpace(e.Docker("inspect", "-f", "{{.State.Status}}", ref).Stdout)
}

// eventually polls until ok or half a minute has passed.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within half a minute: %s", what)
		}
	}
}

func TestLifeCycle(t *testing.T) {
	e := start(t)
	id := e.Must("create", "--name", "web", "-l", "tier=front", image, "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done")
	if len(id) != 64 || status(e, "web") != "created" {
		t.Fatalf("created %q, %s", id, status(e, "web"))
	}
	e.Must("start", "web")
	in := inspect(t, e, "web")
	if in.State.Status != "running" || in.State.Pid == 0 || !in.State.Running || in.Name != "/web" || in.ID != id {
		t.Errorf("state %+v", in.State)
	}
	if _, err := os.Stat("/proc/" + itoa(in.State.Pid)); err != nil {
		t.Error(err)
	}
	if r := e.Docker("start", "web"); r.Code != 0 {
		t.Errorf("starting what runs: %s", r.Stderr)
	}
	eventually(t, "the container is up", func() bool { return strings.Contains(e.Docker("logs", "web").Stdout, "up") })

	e.Must("pause", "web")
	if s := status(e, "web"); s != "paused" {
		t.Errorf("paused is %s", s)
	}
	if r := e.Docker("exec", "web", "true"); r.Code == 0 || !strings.Contains(r.Stderr, "is paused, unpause the container before exec") {
		t.Errorf("exec in a paused container: %d %s", r.Code, r.Stderr)
	}
	e.Must("unpause", "web")

	top := e.Must("top", "web")
	if !strings.HasPrefix(top, "UID") || !strings.Contains(top, "trap") {
		t.Errorf("top:\n%s", top)
	}
	stats := e.Must("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "web")
	if !strings.HasPrefix(stats, "web ") || strings.Contains(stats, "web 0 ") || strings.Contains(stats, " 0B /") {
		t.Errorf("stats %s", stats)
	}

	e.Must("rename", "web", "site")
	if r := e.Docker("inspect", "web"); r.Code == 0 {
		t.Error("the old name is still known")
	}
	e.Must("restart", "-t", "5", "site")
	if again := inspect(t, e, "site"); again.State.Pid == in.State.Pid || !again.State.Running {
		t.Errorf("after restart %+v", again.State)
	}
	eventually(t, "it is up again", func() bool { return strings.Count(e.Docker("logs", "site").Stdout, "up") == 2 })
	e.Must("stop", "-t", "10", "site")
	if in = inspect(t, e, "site"); in.State.Status != "exited" || in.State.ExitCode != 5 || in.State.Pid != 0 {
		t.Errorf("after stop %+v", in.State)
	}
	if got := e.Must("wait", "site"); got != "5" {
		t.Errorf("wait says %s", got)
	}
	if r := e.Docker("kill", "site"); r.Code == 0 || !strings.Contains(r.Stderr, "is not running") {
		t.Errorf("kill of a stopped one: %s", r.Stderr)
	}
	e.Must("start", "site")
	e.Must("kill", "site")
	if got := e.Must("wait", "site"); got != "137" {
		t.Errorf("wait after kill says %s", got)
	}
	e.Must("rm", "site")
	e.Clean(t)
}

func TestStopTimeout(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "deaf", image, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
	before := time.Now()
	e.Must("stop", "-t", "1", "deaf")
	if took := time.Since(before); took > 8*time.Second {
		t.Errorf("stop -t 1 took %v", took)
	}
	if in := inspect(t, e, "deaf"); in.State.ExitCode != 137 {
		t.Errorf("exit code %d", in.State.ExitCode)
	}
}

func TestPs(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "aa", "-l", "x=1", image, "sleep", "1000")
	e.Docker("run", "--name", "bb", image, "sh", "-c", "exit 3")
	for args, want := range map[string]string{
		"": "aa", "-a": "bb aa", "-a -f status=exited": "bb", "-a -f exited=3": "bb", "-f label=x=1": "aa", "-f label=x=2": "",
		"-a -f name=^/bb$": "bb", "-a -n 1": "bb", "-a -f ancestor=" + image: "bb aa", "-a -f before=bb": "aa", "-a -f since=aa": "bb", "-f network=bridge": "aa",
	} {
		got := strings.Join(strings.Fields(e.Must(append(append([]string{"ps"}, strings.Fields(args)...), "--format", "{{.Names}}")...)), " ")
		if got != want {
			t.Errorf("ps %s: %q, want %q", args, got, want)
		}
	}
	if got := e.Must("ps", "-a", "--format", "{{.Names}} {{.Status}} {{.Command}}", "--no-trunc"); !strings.Contains(got, "bb Exited (3) Less than a second ago") && !strings.Contains(got, "bb Exited (3) ") {
		t.Error(got)
	}
	var own, all int
	got := e.Must("inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "aa")
	if _, err := fmt.Sscan(got, &own, &all); err != nil || all-own < 1<<20 {
		t.Errorf("sizes without and with the image: %s", got)
	}
	if r := e.Docker("ps", "-f", "nope=1"); r.Code == 0 || !strings.Contains(r.Stderr, "invalid filter 'nope'") {
		t.Errorf("unknown filter: %s", r.Stderr)
	}
}

func TestRestartPolicy(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "flappy", "--restart", "on-failure:2", image, "sh", "-c", "echo run; exit 4")
	eventually(t, "it gives up", func() bool { return status(e, "flappy") == "exited" && inspect(t, e, "flappy").RestartCount == 2 })
	if n := strings.Count(e.Must("logs", "flappy"), "run"); n != 3 {
		t.Errorf("ran %d times, want 3", n)
	}
	e.Must("run", "-d", "--name", "always", "--restart", "always", image, "sleep", "1000")
	pid := inspect(t, e, "always").State.Pid
	e.Must("exec", "always", "kill", "-9", "1")
	e.Docker("exec", "always", "sh", "-c", "kill -9 -1")
	e.Must("kill", "-s", "KILL", "always")
	if s := status(e, "always"); s != "exited" {
		t.Errorf("a container that was killed by its user is %s", s)
	}
	e.Must("start", "always")
	if inspect(t, e, "always").State.Pid == pid {
		t.Error("the pid did not change")
	}
	e.Must("stop", "-t", "1", "always")
	time.Sleep(300 * time.Millisecond)
	if s := status(e, "always"); s != "exited" {
		t.Errorf("a container that was stopped by its user is %s", s)
	}
}

func TestEvents(t *testing.T) {
	e := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := e.Cmd(ctx, "events", "--filter", "container=ev", "--format", "{{.Action}} {{index .Actor.Attributes \"exitCode\"}}")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // the CLI says nothing when it is subscribed
	since := time.Now().Add(-10 * time.Second).Unix()
	e.Docker("run", "--name", "ev", image, "sh", "-c", "exit 6")
	e.Must("rm", "ev")
	want := []string{"create", "attach", "start", "die 6", "destroy"}
	var got []string
	for sc := bufio.NewScanner(out); len(got) < len(want) && sc.Scan(); {
		got = append(got, strings.TrimSpace(sc.Text()))
	}
	cancel()
	cmd.Wait()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("live events %v, want %v", got, want)
	}
	past := e.Must("events", "--since", itoa(int(since)), "--until", itoa(int(time.Now().Unix()+1)), "--filter", "container=ev", "--filter", "event=die", "--format", "{{.Action}} {{.Type}}")
	if past != "die container" {
		t.Errorf("past events %q", past)
	}
}
