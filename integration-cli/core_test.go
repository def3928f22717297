package integrationcli

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// ctr runs containerd's own client against the core.
func ctr(t *testing.T, e *engine.Engine, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := append([]string{"--address", e.CoreSocket(), "-n", "moby"}, args...)
	out, err := exec.CommandContext(ctx, need.Command(t, "ctr"), all...).CombinedOutput()
	if err != nil {
		t.Errorf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestCtr(t *testing.T) {
	engine.CoreInside(t, "names and things are those of ours")
	e := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	events := exec.CommandContext(ctx, need.Command(t, "ctr"), "--address", e.CoreSocket(), "-n", "moby", "events")
	var seen strings.Builder
	events.Stdout = &seen
	if err := events.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	id := e.Must("run", "-d", "--name", "c1", image, "sleep", "1000")
	pid := itoa(inspect(t, e, "c1").State.Pid)
	if out := ctr(t, e, "containers", "ls"); !strings.Contains(out, id) || !strings.Contains(out, "io.containerd.gantry.v2") {
		t.Errorf("containers ls:\n%s", out)
	}
	if out := ctr(t, e, "tasks", "ls"); !strings.Contains(out, id) || !strings.Contains(out, pid) || !strings.Contains(out, "RUNNING") {
		t.Errorf("tasks ls:\n%s", out)
	}
	if out := ctr(t, e, "images", "ls"); !strings.Contains(out, "docker.io/library/"+image) {
		t.Errorf("images ls:\n%s", out)
	}
	if out := ctr(t, e, "snapshots", "ls"); !strings.Contains(out, id) || !strings.Contains(out, "Committed") {
		t.Errorf("snapshots ls:\n%s", out)
	}
	if out := ctr(t, e, "content", "ls"); !strings.Contains(out, "sha256:") {
		t.Errorf("content ls:\n%s", out)
	}
	if out := ctr(t, e, "plugins", "ls"); !strings.Contains(out, "overlayfs") || strings.Contains(out, "error") {
		t.Errorf("plugins ls:\n%s", out)
	}
	if out := ctr(t, e, "namespaces", "ls", "-q"); strings.TrimSpace(out) != "moby" {
		t.Errorf("namespaces ls: %q", out)
	}
	if out := ctr(t, e, "tasks", "ps", id); !strings.Contains(out, pid) {
		t.Errorf("tasks ps:\n%s", out)
	}
	if out := ctr(t, e, "tasks", "metrics", id); !strings.Contains(out, "memory") {
		t.Errorf("tasks metrics:\n%s", out)
	}
	ctr(t, e, "version")
	e.Must("rm", "-f", "c1")
	cancel()
	events.Wait()
	for _, topic := range []string{"/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/delete"} {
		if !strings.Contains(seen.String(), topic) {
			t.Errorf("no event %s in\n%s", topic, seen.String())
		}
	}
	// The order that the engine promises to the core.
	if c, tc, ts := strings.Index(seen.String(), "/containers/create"), strings.Index(seen.String(), "/tasks/create"), strings.Index(seen.String(), "/tasks/start"); c > tc || tc > ts {
		t.Errorf("containers/create %d, tasks/create %d, tasks/start %d", c, tc, ts)
	}
}
