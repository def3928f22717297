package integrationcli

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStuckShim stops a shim as a signal does: whatever does not need it answers
// meanwhile, what does fails in bounded time, and all is well when it goes on.
func TestStuckShim(t *testing.T) {
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
	calls := []struct{ method, path string }{
		{"POST", "/containers/stuck/stop?t=1"}, {"DELETE", "/containers/stuck?force=1"},
		{"POST", "/containers/stuck/kill?signal=HUP"},
	}
	// No pause among them: the shim would carry it out when it goes on, maybe before the
	// signals, and a frozen container does not die.
	lanes(t, len(calls), func(i int) error { // each within the client's 30 seconds
		status, text, err := ask(e, calls[i].method, calls[i].path, nil)
		if err == nil && status < 500 {
			err = fmt.Errorf("%v: status %d: %s", calls[i], status, text)
		}
		return err
	})
	syscall.Kill(shim, syscall.SIGCONT)
	eventually(t, "the signals have arrived", func() bool { return status(e, "stuck") == "exited" })
	e.Must("rm", "stuck")
	e.Clean(t)
}

// TestDeadShim kills a shim: its container's end is noticed, and cleaned up after.
func TestDeadShim(t *testing.T) {
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
	eventually(t, "its process has gone", func() bool { // but for what pid 1 has not reaped yet
		raw, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(raw), ") Z ")
	})
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
