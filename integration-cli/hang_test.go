package integrationcli

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// stopShim freezes a container's shim, and lets it go on at the end of the test if it is
// still there.
func stopShim(t *testing.T, e *engine.Engine, ref string) int {
	t.Helper()
	pid := shimOf(t, e, ref)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestEndStuck ends containers whose shims do not answer: by stop, kill and a forced
// removal, each to its end in bounded time and with nothing left, the container's
// processes and the shim included.
func TestEndStuck(t *testing.T) {
	engine.OwnCore(t, "it waits for a shim that does not answer")
	e := start(t)
	for _, args := range [][]string{{"stop", "-t", "1"}, {"kill"}, {"rm", "-f"}, {"restart", "-t", "1"}, {"exec"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			name := "c-" + args[0]
			must := func(args ...string) {
				t.Helper()
				if r := e.Docker(args...); r.Code != 0 {
					t.Errorf("docker %v: exit %d: %s", args, r.Code, r.Stderr)
				}
			}
			must("run", "-d", "--name", name, "-p", "80", "-v", "/data", image, "sleep", "1000")
			init, shim := inspect(t, e, name).State.Pid, stopShim(t, e, name)
			if args[0] == "exec" {
				r := e.Docker("exec", name, "true")
				if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "does not answer") { // Docker has it on stdout
					t.Errorf("exec: exit %d, %q %q", r.Code, r.Stdout, r.Stderr)
				}
				syscall.Kill(shim, syscall.SIGCONT)
				must("rm", "-f", name)
				return
			}
			began := time.Now()
			must(append(args, name)...)
			if took := time.Since(began); took > 25*time.Second { // of 9
				t.Errorf("docker %v took %v", args, took)
			}
			for _, pid := range []int{init, shim} {
				eventually(t, "the old processes have gone", func() bool { return ended(pid) })
			}
			switch args[0] {
			case "stop", "kill":
				if in := inspect(t, e, name); in.State.Status != "exited" || in.State.ExitCode != 137 {
					t.Errorf("state %+v", in.State)
				}
				must("start", name)
			case "restart":
				must("exec", name, "true")
			}
		})
	}
}

// ended says whether a process is gone, but for what its parent has not reaped yet.
func ended(pid int) bool {
	raw, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(raw), ") Z ")
}

// TestBootStuck restarts the daemon beside a shim that does not answer: it is ready as
// if nothing were, the container is shown as it was, and is itself again once its shim
// goes on. Neither does the daemon's end wait for it.
func TestBootStuck(t *testing.T) {
	engine.OwnCore(t, "it waits for a shim that does not answer")
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "well", image, "sleep", "1000")
	took := func(what string, f func()) time.Duration {
		began := time.Now()
		f()
		d := time.Since(began)
		t.Logf("%s took %v", what, d)
		return d
	}
	e.Kill()
	usual := took("start", e.Launch)
	e.Must("run", "-d", "--name", "stuck", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "ended", image, "sleep", "1000")
	pid, shim := inspect(t, e, "stuck").State.Pid, stopShim(t, e, "stuck")
	for _, end := range []func(){e.Kill, e.Terminate} {
		if d := took("end beside a stuck shim", end); d > 10*time.Second {
			t.Errorf("the daemon took %v to end", d)
		}
		if d, bound := took("start beside a stuck shim", e.Launch), usual+time.Duration(scale(500, 2000))*time.Millisecond; d > bound {
			t.Errorf("ready after %v, want %v", d, bound)
		}
		if in := inspect(t, e, "stuck"); in.State.Status != "running" || in.State.Pid != pid {
			t.Errorf("state %+v", in.State)
		}
		e.Must("exec", "well", "true")
		e.Must("run", "--rm", image, "true")
	}
	ender := stopShim(t, e, "ended")
	e.Kill()
	e.Launch()
	syscall.Kill(inspect(t, e, "ended").State.Pid, syscall.SIGKILL)
	for _, pid := range []int{shim, ender} {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	eventually(t, "the exit is told", func() bool { return status(e, "ended") == "exited" })
	if in := inspect(t, e, "ended"); in.State.ExitCode != 137 {
		t.Errorf("exit code %d", in.State.ExitCode)
	}
	e.Must("exec", "stuck", "true")
	e.Must("pause", "stuck")
	e.Must("rm", "-f", "stuck")
	e.Clean(t)
}
