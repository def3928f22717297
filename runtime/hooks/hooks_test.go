package hooks_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/hooks"
)

var state = specs.State{Version: specs.Version, ID: "c1", Status: specs.StateCreating, Pid: 42, Bundle: "/b"}

func sh(script string, args ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: append([]string{"sh", "-c", script, "sh"}, args...)}
}

func seconds(n int) *int { return &n }

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name string
		list []specs.Hook
		want string // of the error
	}{
		{"nothing to do", nil, ""},
		{"state on stdin", []specs.Hook{sh(`grep -q '"id":"c1","status":"creating","pid":42,"bundle":"/b"'`)}, ""},
		{"stdin may stay unread", []specs.Hook{sh("exit 0")}, ""},
		{"arguments are the process's own", []specs.Hook{{Path: "/bin/sh", Args: []string{"other", "-c", `test "$0" = other`}}}, ""},
		{"no arguments: the path", []specs.Hook{{Path: "/bin/true"}}, ""},
		{"environment", []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `test "$A" = b && test -z "$HOME"`}, Env: []string{"A=b"}}}, ""},
		{"status and output", []specs.Hook{sh("true"), sh("echo out; echo err >&2; exit 3")},
			"createRuntime hook 1, /bin/sh: exit status 3: out err"},
		{"first failure ends the list", []specs.Hook{sh("exit 1"), sh("exit 2")}, "createRuntime hook 0, /bin/sh: exit status 1"},
		{"signal", []specs.Hook{sh("kill -9 $$")}, "createRuntime hook 0, /bin/sh: signal: killed"},
		{"no such file", []specs.Hook{{Path: "/no/hook"}}, "createRuntime hook 0, /no/hook: fork/exec /no/hook: no such file or directory"},
		{"in time", []specs.Hook{{Path: "/bin/true", Timeout: seconds(60)}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, hooks.Run(t.Context(), c.list, state, hooks.Options{Name: "createRuntime"}), c.want)
		})
	}
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestRunAllGoesOn(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	err := hooks.RunAll(t.Context(), []specs.Hook{sh("exit 1"), sh(`: >"$1"`, mark), sh("exit 2")}, state, hooks.Options{Name: "poststop"})
	check(t, err, "poststop hook 0, /bin/sh: exit status 1\npoststop hook 2, /bin/sh: exit status 2")
	if _, err := os.Stat(mark); err != nil {
		t.Error("the hook after the failed one did not run")
	}
}

func TestTimeoutKillsGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	h := sh(`sleep 300 & echo $! >"$1"; wait`, file)
	h.Timeout = seconds(1)
	err := hooks.Run(t.Context(), []specs.Hook{h}, state, hooks.Options{Name: "prestart"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want deadline exceeded", err)
	}
	b, _ := os.ReadFile(file)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for range 500 { // an orphan now: its end is another's to collect
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the hook's child has outlived its timeout")
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	err := hooks.Run(ctx, []specs.Hook{sh("sleep 300")}, state, hooks.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
}

// TestDaemon: what a hook leaves behind with its output open does not hold us.
func TestDaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	h := sh(`setsid sleep 300 & echo $! >"$1"`, file)
	if err := hooks.Run(t.Context(), []specs.Hook{h}, state, hooks.Options{}); err != nil {
		t.Error(err)
	}
	b, _ := os.ReadFile(file)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	} else {
		t.Error(err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	err := hooks.Run(t.Context(), []specs.Hook{sh("yes | head -c 100000; echo end; exit 1")}, state, hooks.Options{})
	if err == nil || len(err.Error()) > 8<<10 || !strings.HasSuffix(err.Error(), " end") {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}

func TestNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	target := exec.Command("sleep", "300")
	pidfd := -1
	const kinds = unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNS
	target.SysProcAttr = &syscall.SysProcAttr{Cloneflags: kinds, PidFD: &pidfd}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer target.Wait()
	defer target.Process.Kill()
	init := os.NewFile(uintptr(pidfd), "init")
	defer init.Close()
	ns := &hooks.Namespaces{Init: init, Flags: kinds}
	host, _ := os.Hostname()

	t.Run("joined", func(t *testing.T) {
		// the container's init is process 1, which we see from a new mount of /proc
		list := []specs.Hook{
			sh("mount --make-rprivate / && hostname inside-of-hook"),
			sh("mount -t proc proc /proc && test \"$(cat /proc/1/comm)\" = sleep && test $(hostname) = inside-of-hook; r=$?; umount /proc; exit $r"),
		}
		list[1].Env, list[0].Env = os.Environ(), os.Environ()
		if err := hooks.Run(t.Context(), list, state, hooks.Options{Name: "createContainer", Namespaces: ns}); err != nil {
			t.Error(err)
		}
		if now, _ := os.Hostname(); now != host {
			t.Errorf("the host's name is %q now", now)
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, c := range []struct {
			hook specs.Hook
			want string
		}{
			{sh("echo why; exit 4"), "startContainer hook 0, /bin/sh: exit status 4: why"},
			{specs.Hook{Path: "/no/hook"}, "startContainer hook 0, /no/hook: run /no/hook: no such file or directory"},
			{sh("kill -15 $$; sleep 300"), "startContainer hook 0, /bin/sh: signal: terminated"},
		} {
			c.hook.Env = []string{"PATH=/bin:/usr/bin"}
			check(t, hooks.Run(t.Context(), []specs.Hook{c.hook}, state, hooks.Options{Name: "startContainer", Namespaces: ns}), c.want)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		h := sh("sleep 300")
		h.Env, h.Timeout = []string{"PATH=/bin:/usr/bin"}, seconds(1)
		err := hooks.Run(t.Context(), []specs.Hook{h}, state, hooks.Options{Namespaces: ns})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want deadline exceeded", err)
		}
	})
}
