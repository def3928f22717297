package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// host is a runtime whose execs are the host's processes, each in a session of its own,
// and whose containers hold all of them.
type host struct{ fake }

func (h *host) Create(ctx context.Context, o CreateOptions) (Container, Started, error) {
	_, s, err := h.fake.Create(ctx, o)
	return h, s, err
}

func (h *host) Exec(_ context.Context, o ExecOptions) (Started, error) {
	p, err := os.StartProcess(o.Spec.Args[0], o.Spec.Args, &os.ProcAttr{
		Files: []*os.File{nil, o.Files.Stdout, o.Files.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return Started{}, errdefs.NotFound("exec: %w", err)
	}
	defer p.Release()
	return Started{Pid: p.Pid}, nil
}

func (h *host) Pids() (pids []int, err error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	for _, n := range names {
		if pid, err := strconv.Atoi(filepath.Base(n)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

func shell(script string) *specs.Process {
	return &specs.Process{Args: []string{"/bin/sh", "-c", script}}
}

func TestProbe(t *testing.T) {
	task, told := newTask(t, &host{})
	t.Cleanup(func() { task.Kill(context.Background(), "", unix.SIGKILL, false) })
	if _, err := task.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	run := func(script string, timeout time.Duration) Probed {
		t.Helper()
		r, err := task.Probe(t.Context(), ProbeOptions{ID: "p", Spec: shell(script), Timeout: timeout, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, row := range map[string]struct {
		script, out string
		code        int
		cut         bool
	}{
		"silent":            {"exit 3", "", 3, false},
		"both in order":     {"printf a; printf b >&2; printf c", "abc", 0, false},
		"cut":               {"printf 12345678901; exit 1", "1234567890", 1, true},
		"more than a pipe":  {"head -c 200000 /dev/zero | tr '\\0' x; exit 7", "xxxxxxxxxx", 7, true},
		"pipe left to some": {"printf a; sleep " + sleepTime + " & exit 0", "a", 0, false},
		"by a signal":       {"kill -9 $$", "", 137, false},
	} {
		r := run(row.script, time.Minute)
		if string(r.Output) != row.out || r.Exit.Status != row.code || r.Cut != row.cut || r.TimedOut {
			t.Errorf("%s: %+v %q", name, r, r.Output)
		}
	}
	killStrays(t)
	if _, err := task.Probe(t.Context(), ProbeOptions{ID: "p", Spec: &specs.Process{Args: []string{"/nowhere"}}, Timeout: time.Minute}); !errdefs.IsNotFound(err) {
		t.Errorf("a program that is not there: %v", err)
	}
	if got := told.String(); got != `start ""` {
		t.Errorf("told: %s", got)
	}
}

// killStrays ends what a probe left behind by intent.
func killStrays(t *testing.T) {
	t.Helper()
	for _, pid := range sleepers(t) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// sleepers are the processes of `sleep 1000` that are not in this process's session,
// and not dead.
func sleepers(t *testing.T) (pids []int) {
	t.Helper()
	own, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	all, err := (&host{}).Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range all {
		cmd, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if _, session, err := familyOf(pid); err == nil && session != int(own) && string(cmd) == "sleep\x00"+sleepTime+"\x00" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sleepTime tells this process's sleepers from others'.
var sleepTime = strconv.Itoa(1_000_000 + os.Getpid())

// TestProbeKilled: a probe whose time is over ends with all it has begun, and one whose
// caller has gone too.
func TestProbeKilled(t *testing.T) {
	task, _ := newTask(t, &host{})
	t.Cleanup(func() { task.Kill(context.Background(), "", unix.SIGKILL, false) })
	if _, err := task.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	tree := "sleep T & (sleep T & sleep T) & printf here; while :; do sleep T; done"
	tree = strings.ReplaceAll(tree, "T", sleepTime)
	r, err := task.Probe(t.Context(), ProbeOptions{ID: "p", Spec: shell(tree), Timeout: 300 * time.Millisecond, Limit: 100})
	if err != nil || !r.TimedOut || r.Exit.Status != 137 || string(r.Output) != "here" {
		t.Errorf("%+v %q, %v", r, r.Output, err)
	}
	expectNoSleepers(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := task.Probe(ctx, ProbeOptions{ID: "p", Spec: shell(tree), Timeout: time.Minute, Limit: 100}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("caller gone: %v", err)
	}
	expectNoSleepers(t)
}

func expectNoSleepers(t *testing.T) {
	t.Helper()
	var left []int
	for range 100 {
		if left = sleepers(t); len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("processes are left: %v", left)
	killStrays(t)
}
