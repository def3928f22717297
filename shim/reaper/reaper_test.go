package reaper_test

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/shim/reaper"
)

func start(t *testing.T, script string) int {
	t.Helper()
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	pid := p.Pid
	p.Release()
	return pid
}

func await(t *testing.T, exit <-chan reaper.Exit) reaper.Exit {
	t.Helper()
	select {
	case e := <-exit:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no exit came")
		panic("unreachable")
	}
}

func TestReaper(t *testing.T) {
	if err := reaper.Subreaper(); err != nil {
		t.Fatal(err)
	}
	r := reaper.New()
	defer r.Close()

	t.Run("statuses", func(t *testing.T) {
		for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -TERM $$": 143} {
			var exit <-chan reaper.Exit
			var pid int
			r.Guard(func() error {
				pid = start(t, script)
				exit = r.Watch(pid)
				return nil
			})
			if e := await(t, exit); e.Status != want || e.Pid != pid || e.At.IsZero() {
				t.Errorf("%q: %+v, want status %d of %d", script, e, want, pid)
			}
		}
	})

	t.Run("already a zombie", func(t *testing.T) {
		var exit <-chan reaper.Exit
		r.Guard(func() error {
			pid := start(t, "exit 3")
			if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
			exit = r.Watch(pid)
			if e := await(t, exit); e.Status != 3 { // known ones come in a guard too
				t.Errorf("status %d", e.Status)
			}
			return nil
		})
	})

	t.Run("os/exec beside orphans", func(t *testing.T) {
		for range 50 {
			err := r.Guard(func() error { return exec.Command("/bin/sh", "-c", "sleep 0.01 & exit 5").Run() })
			var code *exec.ExitError
			if !errors.As(err, &code) || code.ExitCode() != 5 {
				t.Fatalf("exit stolen: %v", err)
			}
		}
	})

	t.Run("orphans are gone", func(t *testing.T) {
		var orphan int
		r.Guard(func() error {
			out, err := exec.Command("/bin/sh", "-c", "sleep 100 >/dev/null 2>&1 & echo $!").Output()
			if err != nil {
				t.Fatal(err)
			}
			orphan, _ = strconv.Atoi(strings.TrimSpace(string(out)))
			return nil
		})
		if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); syscall.Kill(orphan, 0) == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("orphan stays a zombie")
			}
		}
	})
}
