//go:build failpoint

package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const child = "GANTRY_FAILPOINT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	Hit("other")
	Hit("here")
	if err := Err("here"); err != nil {
		os.Exit(3)
	}
}

// TestActions runs the point in a process of its own.
func TestActions(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	run := func(rule string) (code int, killed bool, took time.Duration) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"=1", Variable+"="+rule, Mark+"="+mark)
		begun := time.Now()
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		st := cmd.ProcessState.Sys().(syscall.WaitStatus)
		return st.ExitStatus(), st.Signaled() && st.Signal() == syscall.SIGKILL, time.Since(begun)
	}
	if _, killed, _ := run("here=kill"); !killed {
		t.Error("not killed")
	}
	if code, killed, _ := run("here=kill"); killed || code != 0 {
		t.Errorf("with the mark there: code %d, killed %v", code, killed)
	}
	os.Remove(mark)
	if code, _, _ := run("here=error@2"); code != 3 {
		t.Errorf("error: code %d", code)
	}
	os.Remove(mark)
	if _, _, took := run("here=sleep:300ms"); took < 300*time.Millisecond {
		t.Errorf("slept %v", took)
	}
	os.Remove(mark)
	if code, killed, _ := run("nowhere=kill"); code != 0 || killed {
		t.Errorf("another point: code %d, killed %v", code, killed)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a mark without a hit")
	}
}
