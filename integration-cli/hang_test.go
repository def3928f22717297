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
				args = []string{"rm", "-f"}
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
