package boot_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/shimwire"
)

// eachRuntime runs a test on the built-in runtime and on runc.
func eachRuntime(t *testing.T, test func(t *testing.T, e *engine)) {
	for _, runtime := range []string{"", "runc"} {
		name := runtime
		if name == "" {
			name = "builtin"
		}
		t.Run(name, func(t *testing.T) { test(t, newEngine(t, runtime)) })
	}
}

var both = shimwire.Hello{Stdout: true, Stderr: true}

func TestRun(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sh", "-c", "echo out; echo err >&2; exit 7")
		k.create(nil)
		c := k.attach(both) // between create and start, as docker run does
		k.start("")
		if out, errs := k.all(c); out != "out\n" || errs != "err\n" {
			t.Errorf("got %q and %q", out, errs)
		}
		if status := k.wait(""); status != 7 {
			t.Errorf("status %d", status)
		}
		late := k.attach(shimwire.Hello{Stdout: true, From: &shimwire.Position{}})
		if out, _ := k.all(late); out != "out\n" {
			t.Errorf("after the exit: %q", out)
		}
		if d := k.remove(); d.ExitStatus != 7 || d.Pid == 0 || d.ExitedAt == nil {
			t.Errorf("delete answered %v", d)
		}
		e.await(t, "create", "start", "exit init 7", "delete")
		raw, err := os.ReadFile(k.log)
		if err != nil || strings.Count(string(raw), "\n") != 2 || !strings.Contains(string(raw), `{"log":"out\n","stream":"stdout","time":"`) {
			t.Errorf("log %q, %v", raw, err)
		}
	})
}

func TestStates(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sleep", "1000")
		state := func(want tasktypes.Status) {
			t.Helper()
			r, err := k.api.State(k.ctx, &taskapi.StateRequest{ID: k.id})
			if err != nil || r.Status != want || r.Pid == 0 {
				t.Errorf("state %v, %v, want %v", r, err, want)
			}
		}
		k.create(nil)
		state(tasktypes.Status_CREATED)
		k.start("")
		state(tasktypes.Status_RUNNING)
		if _, err := k.api.Start(k.ctx, &taskapi.StartRequest{ID: k.id}); !errdefs.IsFailedPrecondition(errgrpc.ToNative(err)) {
			t.Errorf("second start: %v", err)
		}
		if _, err := k.api.Delete(k.ctx, &taskapi.DeleteRequest{ID: k.id}); !errdefs.IsFailedPrecondition(errgrpc.ToNative(err)) {
			t.Errorf("delete of a running one: %v", err)
		}
		if _, err := k.api.Pause(k.ctx, &taskapi.PauseRequest{ID: k.id}); err != nil {
			t.Fatal(err)
		}
		state(tasktypes.Status_PAUSED)
		if _, err := k.api.Resume(k.ctx, &taskapi.ResumeRequest{ID: k.id}); err != nil {
			t.Fatal(err)
		}
		state(tasktypes.Status_RUNNING)
		pids, err := k.api.Pids(k.ctx, &taskapi.PidsRequest{ID: k.id})
		if err != nil || len(pids.Processes) != 1 {
			t.Errorf("pids %v, %v", pids, err)
		}
		stats, err := k.api.Stats(k.ctx, &taskapi.StatsRequest{ID: k.id})
		if err != nil || !strings.HasPrefix(stats.Stats.TypeUrl, "io.containerd.cgroups.v") {
			t.Errorf("stats %v, %v", stats, err)
		}
		k.kill("", 9)
		if status := k.wait(""); status != 137 {
			t.Errorf("status %d", status)
		}
		state(tasktypes.Status_STOPPED)
		if _, err := k.api.Kill(k.ctx, &taskapi.KillRequest{ID: k.id, Signal: 15}); !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("kill of a stopped one: %v", err)
		}
		k.remove()
		e.await(t, "create", "start", "paused", "resumed", "exit init 137", "delete")
	})
}

func TestDeleteCreated(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sleep", "1000")
		k.create(nil)
		k.remove()
		e.await(t, "create", "exit init 137", "delete")
	})
}

func TestFailedCreate(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "nope")
		uri := shimwire.LogURI{Path: k.log, Socket: k.socket}.String()
		_, err := k.api.Create(k.ctx, &taskapi.CreateTaskRequest{ID: k.id, Bundle: k.bundle, Stdout: uri, Stderr: uri, Options: k.options()})
		if err == nil || !strings.Contains(err.Error(), `exec: "nope": executable file not found in $PATH`) {
			t.Errorf("create: %v", err)
		}
		if e.binary == "" && !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("class of %v is lost", err)
		}
		if _, err := k.api.State(k.ctx, &taskapi.StateRequest{ID: k.id}); !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("state: %v", err)
		}
		k.api.Shutdown(k.ctx, &taskapi.ShutdownRequest{ID: k.id})
		e.await(t)
	})
}

func TestExecs(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sleep", "1000")
		k.create(nil)
		k.start("")
		k.exec("e1", nil, "sh", "-c", "echo hello; exit 3")
		k.start("e1")
		if status := k.wait("e1"); status != 3 {
			t.Errorf("status %d", status)
		}
		h := both
		h.Proc = "e1"
		if out, _ := k.all(k.attach(h)); out != "hello\n" { // a short exec, read after its end
			t.Errorf("got %q", out)
		}
		if r, err := k.api.Delete(k.ctx, &taskapi.DeleteRequest{ID: k.id, ExecID: "e1"}); err != nil || r.ExitStatus != 3 {
			t.Errorf("delete: %v, %v", r, err)
		}
		if _, err := k.api.State(k.ctx, &taskapi.StateRequest{ID: k.id, ExecID: "e1"}); !errdefs.IsNotFound(errgrpc.ToNative(err)) {
			t.Errorf("deleted exec: %v", err)
		}

		k.exec("bad", nil, "nope")
		if _, err := k.api.Start(k.ctx, &taskapi.StartRequest{ID: k.id, ExecID: "bad"}); err == nil || !strings.Contains(err.Error(), `exec: "nope": executable file not found in $PATH`) {
			t.Errorf("start of a bad exec: %v", err)
		}
		if _, err := k.api.Delete(k.ctx, &taskapi.DeleteRequest{ID: k.id, ExecID: "bad"}); err != nil {
			t.Errorf("delete of a bad exec: %v", err)
		}

		k.exec("e2", nil, "sleep", "1000")
		k.start("e2")
		pids, err := k.api.Pids(k.ctx, &taskapi.PidsRequest{ID: k.id})
		if err != nil || len(pids.Processes) != 2 || pids.Processes[0].Info == nil && pids.Processes[1].Info == nil {
			t.Errorf("pids %v, %v", pids, err)
		}
		k.kill("e2", 15)
		if status := k.wait("e2"); status != 143 {
			t.Errorf("status %d", status)
		}
		want := []string{"create", "start", "exec-added e1", "exec-started e1", "exit e1 3", "exec-added bad", "exec-added e2", "exec-started e2", "exit e2 143"}
		for i := range 5 { // these end with the init, and are told before it
			id := fmt.Sprint("x", i)
			k.exec(id, nil, "sleep", "1000")
			k.start(id)
			want = append(want, "exec-added "+id, "exec-started "+id)
		}
		e.await(t, want...)
		k.kill("", 9)
		k.wait("")
		e.mu.Lock()
		last := e.seen[len(e.seen)-1]
		count := len(e.seen) - len(want)
		e.mu.Unlock()
		if last == "exit init 137" && count != 6 {
			t.Errorf("%d exits with the init's", count)
		}
		k.remove()
		e.mu.Lock()
		defer e.mu.Unlock()
		tail := e.seen[len(want):]
		if len(tail) != 7 || tail[5] != "exit init 137" || tail[6] != "delete" {
			t.Errorf("events at the end: %q", tail)
		}
	})
}

// TestOutOfMemory pins that the event comes before the exit.
func TestOutOfMemory(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		limit := int64(16 << 20)
		k := e.newTask(t, func(s *specs.Spec) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
		}, "sh", "-c", "exec tail /dev/zero")
		k.create(nil)
		k.start("")
		if status := k.wait(""); status != 137 {
			t.Errorf("status %d", status)
		}
		k.remove()
		e.await(t, "create", "start", "oom", "exit init 137", "delete")
	})
}

// TestProtected pins that a container can't write to the program that made it.
func TestProtected(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "true")
	exe := fmt.Sprintf("/proc/%d/exe", k.shimPid())
	if f, err := os.OpenFile(exe, os.O_RDWR, 0); err == nil {
		f.Close()
		t.Error("the shim's program can be opened for writing")
	} else if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ETXTBSY) {
		t.Error(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(exe, &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("the shim runs from a writable mount: %v", err)
	}
	k.create(nil)
	k.remove()
}

// TestIdentity pins what the engine relies on: the shim is nobody's child, leads
// its session, and has none of the engine's files.
func TestIdentity(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "true")
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.shimPid()))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
	if ppid, session := fields[1], fields[3]; ppid == fmt.Sprint(os.Getpid()) || session != fmt.Sprint(k.shimPid()) {
		t.Errorf("parent %s, session %s", ppid, session)
	}
	k.create(nil)
	k.remove()
}

// TestPod pins that containers of one group share a shim, which ends with the last.
func TestPod(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	inPod := func(s *specs.Spec) { s.Annotations = map[string]string{"io.kubernetes.cri.sandbox-id": "pod"} }
	a := e.newTask(t, inPod, "sleep", "1000")
	a.create(nil)
	a.start("")
	b := e.newTask(t, inPod, "echo", "hello")
	if !b.joined {
		t.Fatal("the second container has a shim of its own")
	}
	b.create(nil)
	c := b.attach(both)
	b.start("")
	if out, _ := b.all(c); out != "hello\n" {
		t.Errorf("got %q", out)
	}
	b.wait("")
	if _, err := b.api.Delete(b.ctx, &taskapi.DeleteRequest{ID: b.id}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.api.Shutdown(b.ctx, &taskapi.ShutdownRequest{ID: b.id}); err != nil {
		t.Fatal(err)
	}
	b.run(nil, "-bundle", b.bundle, "delete")
	a.kill("", 9)
	if status := a.wait(""); status != 137 {
		t.Errorf("status %d", status)
	}
	a.remove()
}
