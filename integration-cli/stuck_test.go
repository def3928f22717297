package integrationcli

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// TestStuckShim stops a shim as a signal does: whatever does not need it answers
// meanwhile, what does fails in bounded time, and all is well when it goes on.
func TestStuckShim(t *testing.T) {
	engine.OwnCore(t, "it waits for a shim that does not answer")
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "stuck", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "well", image, "sleep", "1000")
	shim := shimOf(t, e, "stuck")
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(shim, syscall.SIGCONT)
	if out := e.Must("ps", "--format", "{{.Names}} {{.State}}"); !strings.Contains(out, "stuck running") {
		t.Errorf("ps: %s", out)
	}
	for _, args := range [][]string{
		{"inspect", "stuck"}, {"inspect", "well"}, {"info"}, {"events", "--since", "1m", "--until", "0s"}, {"logs", "stuck"},
		{"exec", "well", "true"}, {"run", "--rm", image, "true"}, {"rename", "stuck", "stick"}, {"rename", "stick", "stuck"},
		{"images"}, {"volume", "ls"}, {"network", "ls"}, {"system", "df"},
	} {
		began := time.Now()
		e.Must(args...)
		if took := time.Since(began); took > 9*time.Second { // who asks the shim waits for ten
			t.Errorf("docker %v took %v", args, took)
		}
	}
	// No pause and no stop: the shim would carry them out when it goes on.
	if got, text, err := ask(e, "POST", "/containers/stuck/kill?signal=HUP", nil); err != nil || got < 500 {
		t.Errorf("kill -s HUP: status %d, %v: %s", got, err, text)
	}
	syscall.Kill(shim, syscall.SIGCONT)
	e.Must("exec", "stuck", "true")
	e.Must("rm", "-f", "stuck")
	e.Clean(t)
}

// TestDeadShim kills a shim: its container's end is noticed, and cleaned up after.
func TestDeadShim(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "c1", "-p", "80", "-v", "/data", image, "sleep", "1000")
	p := port(t, e, "c1", "80/tcp")
	pid := inspect(t, e, "c1").State.Pid
	if err := syscall.Kill(shimOf(t, e, "c1"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := e.Must("wait", "c1"); got != "137" {
		t.Errorf("exit code %s", got)
	}
	eventually(t, "its process has gone", func() bool { return ended(pid) })
	if in := inspect(t, e, "c1"); in.State.Status != "exited" || in.State.ExitCode != 137 {
		t.Errorf("state %+v", in.State)
	}
	e.Must("start", "c1")
	if err := syscall.Kill(shimOf(t, e, "c1"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.Must("wait", "c1")
	e.Must("run", "--rm", "-p", p+":80", image, "true") // the port is free
	e.Must("rm", "-v", "c1")
	e.Clean(t)
}
