package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// TestStuckVerbs does with a container whose shim does not answer all that can be done
// with one that runs. Each is answered in bounded time; what can't be done is not done
// when the shim goes on either. The short form leaves out what waits for ten seconds.
func TestStuckVerbs(t *testing.T) {
	engine.OwnCore(t, "it waits for a shim that does not answer")
	e := start(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Must("run", "-d", "--name", "stuck", "-m", "64m", "--health-cmd", "true", "--health-interval", "100ms", image, "sh", "-c", "echo said; sleep 1000")
	eventually(t, "it is checked", func() bool {
		return strings.TrimSpace(e.Docker("inspect", "-f", "{{.State.Health.Status}}", "stuck").Stdout) == "healthy"
	})
	shim := shimOf(t, e, "stuck")
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(shim, syscall.SIGCONT)
	t.Run("all", func(t *testing.T) {
		for name, tc := range map[string]struct {
			args []string
			fine bool
			slow bool // it takes its ten seconds
		}{
			"logs":    {[]string{"logs", "stuck"}, true, false},
			"diff":    {[]string{"diff", "stuck"}, true, false},
			"commit":  {[]string{"commit", "stuck", "stuck:1"}, true, false}, // as it is, where it can't be paused
			"exec":    {[]string{"exec", "stuck", "true"}, false, true},
			"exec -d": {[]string{"exec", "-d", "stuck", "true"}, false, true},
			"cp from": {[]string{"cp", "stuck:/etc/passwd", "-"}, false, false},
			"cp to":   {[]string{"cp", file, "stuck:/file"}, false, false},
			"export":  {[]string{"export", "-o", file + ".tar", "stuck"}, false, false},
			"update":  {[]string{"update", "-m", "80m", "--memory-swap", "160m", "stuck"}, false, false},
			"top":     {[]string{"top", "stuck"}, false, true},
			"stats":   {[]string{"stats", "--no-stream", "stuck"}, true, true},
			"inspect": {[]string{"inspect", "-s", "stuck"}, true, false},
		} {
			if tc.slow && scale(1, 0) == 0 {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				r := e.Docker(tc.args...)
				if took := time.Since(began); took > 30*time.Second { // stats asks twice
					t.Errorf("took %v", took)
				}
				if (r.Code == 0) != tc.fine {
					t.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
			})
		}
		t.Run("attach", func(t *testing.T) { // docker would wait for the container's end
			t.Parallel()
			began := time.Now()
			_, text, err := ask(e, "POST", "/containers/stuck/attach?stream=1&stdout=1", nil)
			if took := time.Since(began); took > 30*time.Second || err != nil || !strings.Contains(text, "does not answer") {
				t.Errorf("after %v: %q, %v", took, text, err)
			}
		})
	})
	syscall.Kill(shim, syscall.SIGCONT)
	e.Must("exec", "stuck", "true")
	time.Sleep(time.Second) // what it was asked for in vain
	if in := inspect(t, e, "stuck"); in.State.Status != "running" || in.HostConfig.Memory != 64<<20 {
		t.Errorf("afterwards: %+v, memory %d", in.State, in.HostConfig.Memory)
	}
	if got := e.Must("exec", "stuck", "echo", "alive"); got != "alive" {
		t.Errorf("exec: %q", got)
	}
	if r := e.Docker("exec", "stuck", "ls", "/file"); r.Code == 0 {
		t.Error("the copy was made")
	}
	eventually(t, "the checks go on", func() bool {
		return strings.TrimSpace(e.Docker("inspect", "-f", "{{.State.Health.Status}}", "stuck").Stdout) == "healthy"
	})
	e.Must("rmi", "stuck:1")
	e.Place().Agree(t)
	e.Must("rm", "-f", "stuck")
	e.Clean(t)
}
