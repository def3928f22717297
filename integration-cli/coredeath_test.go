package integrationcli

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// TestCoreRestart restarts the core under its own clients: a stream drops at once, the
// next call goes to the new one, and a container that they made runs on.
func TestCoreRestart(t *testing.T) {
	engine.CoreInside(t, "it has a life of its own")
	e := start(t)
	name := strings.Fields(ctr(t, e, "images", "ls", "-q"))[0]
	ctr(t, e, "run", "-d", "--runtime", "io.containerd.gantry.v2", name, "theirs", "sleep", "1000")
	before := ctr(t, e, "tasks", "ls")
	for _, end := range []func(){e.Kill, e.Terminate} {
		events := exec.CommandContext(t.Context(), need.Command(t, "ctr"), "--address", e.CoreSocket(), "-n", "moby", "events")
		if err := events.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		end()
		dropped := make(chan struct{})
		go func() { events.Wait(); close(dropped) }() // ends with the connection, or the test
		select {
		case <-dropped:
		case <-time.After(10 * time.Second):
			t.Error("a client does not notice that the core has gone")
		}
		e.Launch()
		if after := ctr(t, e, "tasks", "ls"); after != before || !strings.Contains(after, "RUNNING") {
			t.Errorf("tasks were\n%s\nand are\n%s", before, after)
		}
		if got := ctr(t, e, "tasks", "exec", "--exec-id", "x", "theirs", "echo", "alive"); got != "alive\n" {
			t.Errorf("exec: %q", got)
		}
	}
	ctr(t, e, "tasks", "kill", "-s", "KILL", "theirs")
	eventually(t, "the task has ended", func() bool { return strings.Contains(ctr(t, e, "tasks", "ls"), "STOPPED") })
	ctr(t, e, "tasks", "rm", "theirs")
	ctr(t, e, "containers", "rm", "theirs")
}
