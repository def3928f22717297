package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/container"
	"gantry/libctr/core/event"
	"gantry/libctr/core/task"
)

const runcShim = "/usr/bin/containerd-shim-runc-v2"

// needRunc skips where a foreign shim can't run.
func needRunc(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: runs containers")
	}
	for _, path := range []string{runcShim, "/bin/busybox"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("needs %s: %v", path, err)
		}
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skipf("needs runc: %v", err)
	}
}

// testNamespace is one of the test's own: runtimes keep their state by it, for
// all cores of the host.
func testNamespace(t *testing.T) context.Context {
	t.Helper()
	ns := fmt.Sprintf("core-test-%d-%d", os.Getpid(), namespaces.Add(1))
	t.Cleanup(func() { noRuntimeState(t, ns) })
	return inNamespace(t.Context(), ns)
}

// noRuntimeState checks that runc has forgotten the namespace's containers.
func noRuntimeState(t *testing.T, ns string) {
	if err := os.Remove(filepath.Join("/run/containerd/runc", ns)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("runc's state: %v", err)
	}
}

var namespaces atomic.Int64

// onEachShim runs a test on the foreign shim and on ours.
func onEachShim(t *testing.T, fn func(t *testing.T, c *core)) {
	needRunc(t)
	t.Run("runc", func(t *testing.T) {
		c := start(t, newConfig(t))
		c.runtime = "io.containerd.runc.v2"
		fn(t, c)
	})
	t.Run("runc of containerd 2", func(t *testing.T) {
		path := need.Client(t, "containerd-shim-runc-v2")
		c := start(t, newConfig(t))
		c.runtime = path
		fn(t, c)
	})
	t.Run("gantry", func(t *testing.T) {
		cfg := newConfig(t)
		cfg.ShimDir = binaries(t)
		c := start(t, cfg)
		c.runtime = "io.containerd.gantry.v2"
		c.probe(t)
		fn(t, c)
	})
}

// probe skips while the shim's built-in runtime can't create containers.
func (c *core) probe(t *testing.T) {
	t.Helper()
	ctx := testNamespace(t)
	c.record(t, ctx, "probe", spec(userland(t), "probe", "true"))
	_, err := c.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: "probe"})
	if errdefs.IsNotImplemented(err) {
		t.Skipf("needs the built-in runtime: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.remove(t, ctx, "probe")
}

// onOurShimWithRunc runs a test on our shim with a foreign runtime.
func onOurShimWithRunc(t *testing.T, fn func(t *testing.T, c *core)) {
	needRunc(t)
	t.Run("gantry with runc", func(t *testing.T) {
		cfg := newConfig(t)
		cfg.ShimDir = binaries(t)
		c := start(t, cfg)
		options, err := typeurl.MarshalAny(&runcoptions.Options{BinaryName: "runc"})
		if err != nil {
			t.Fatal(err)
		}
		c.runtime, c.options = "io.containerd.gantry.v2", options
		fn(t, c)
	})
}

// binaries is where the built programs are.
func binaries(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("GANTRY_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "containerd-shim-gantry-v2"))
	}
	if err != nil {
		t.Skipf("needs the built shim (make build): %v", err)
	}
	return dir
}

// userland makes a root directory with busybox in it.
func userland(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "proc", "dev", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "cat", "true"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func spec(root, id string, args ...string) *specs.Spec {
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{},
		},
		Root: &specs.Root{Path: root},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
		},
		Linux: &specs.Linux{
			CgroupsPath: fmt.Sprintf("/core-test-%d-%s", os.Getpid(), id),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
			},
		},
	}
}

func anyJSON(t *testing.T, typ string, v any) typeurl.Any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/" + typ, Value: data}
}

// record creates a container's record.
func (c *core) record(t *testing.T, ctx context.Context, id string, s *specs.Spec) {
	t.Helper()
	_, err := c.client.Containers().Create(ctx, container.Container{
		ID: id, Runtime: container.Runtime{Name: c.runtime, Options: c.options}, Spec: anyJSON(t, "Spec", s)})
	if err != nil {
		t.Fatal(err)
	}
}

// run starts a task. Should the test fail on the way, it is ended all the same.
func (c *core) run(t *testing.T, ctx context.Context, root, id string, args ...string) uint32 {
	t.Helper()
	return c.runSpec(t, ctx, id, spec(root, id, args...))
}

func (c *core) runSpec(t *testing.T, ctx context.Context, id string, s *specs.Spec) uint32 {
	t.Helper()
	c.record(t, ctx, id, s)
	tasks := c.client.Tasks()
	pid, err := tasks.Create(ctx, task.CreateOptions{ContainerID: id})
	if err != nil {
		t.Fatal(err)
	}
	if started, err := tasks.Start(ctx, id, ""); err != nil || started != pid {
		t.Fatalf("start: pid %d, created as %d: %v", started, pid, err)
	}
	ns := reqctx.Namespace(ctx)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		_ = syscall.Kill(int(pid), syscall.SIGKILL)
		cmd := exec.Command("runc", "--root", filepath.Join("/run/containerd/runc", ns), "delete", "--force", id)
		out, err := cmd.CombinedOutput()
		t.Logf("clean up: %v %s", err, out)
		for _, p := range c.processes(t) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	})
	return pid
}

// remove ends a task and its container.
func (c *core) remove(t *testing.T, ctx context.Context, id string) {
	t.Helper()
	tasks := c.client.Tasks()
	if err := tasks.Kill(ctx, id, "", uint32(syscall.SIGKILL), true); err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("kill %s: %v", id, err)
	}
	if _, err := tasks.Wait(ctx, id, ""); err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("wait for %s: %v", id, err)
	}
	if _, err := tasks.Delete(ctx, id, ""); err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("delete %s: %v", id, err)
	}
	if err := c.client.Containers().Delete(ctx, id); err != nil {
		t.Errorf("remove %s: %v", id, err)
	}
}

// shimOf finds the shim process of a container of this core by its command line.
func (c *core) shimOf(t *testing.T, id string) int {
	t.Helper()
	for _, p := range c.processes(t) {
		if strings.Contains(p.cmdline, "-id "+id+" ") {
			return p.pid
		}
	}
	t.Fatalf("no shim of %s", id)
	return 0
}

// running says whether a process is there and no zombie: who adopts orphans may
// take its time to reap them.
func running(pid uint32) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

type process struct {
	pid     int
	cmdline string
}

// processes are the shims that were told this core's address.
func (c *core) processes(t *testing.T) (out []process) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		cmdline := strings.ReplaceAll(string(data), "\x00", " ")
		if strings.Contains(cmdline, "containerd-shim") && strings.Contains(cmdline, c.cfg.State) {
			out = append(out, process{pid, cmdline})
		}
	}
	return out
}

// noneLeft checks that the core's tasks have left no process, mount or bundle.
func (c *core) noneLeft(t *testing.T) {
	t.Helper()
	eventually(t, "leak check", func() error {
		var left []string
		for _, p := range c.processes(t) {
			left = append(left, p.cmdline)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, c.cfg.State) {
				left = append(left, line)
			}
		}
		for _, dir := range []string{c.cfg.State, c.cfg.Root} {
			bundles, err := filepath.Glob(filepath.Join(dir, "io.containerd.runtime.v2.task/*/*"))
			if err != nil {
				return err
			}
			left = append(left, bundles...)
		}
		if len(left) > 0 {
			return fmt.Errorf("left: %q", left)
		}
		return nil
	})
}

// eventually waits for what happens soon; the bound is generous.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// nextEvent waits for an event of the topic.
func nextEvent[T any](t *testing.T, events <-chan *event.Envelope, topic string) (T, *event.Envelope) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("event stream ended")
			}
			if e.Topic != topic {
				continue
			}
			v, err := typeurl.UnmarshalAny(e.Event)
			if err != nil {
				t.Fatal(err)
			}
			return v.(T), e
		case <-timeout:
			t.Fatalf("no event of %s", topic)
		}
	}
}

func TestTaskLife(t *testing.T) {
	onEachShim(t, taskLife)
	onOurShimWithRunc(t, taskLife)
}

func taskLife(t *testing.T, c *core) {
	ctx := testNamespace(t)
	events, _ := c.client.Events().Subscribe(ctx)
	tasks, root := c.client.Tasks(), userland(t)

	if _, err := tasks.Get(ctx, "one", ""); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "container") {
		t.Errorf("get without a container: %v", err)
	}
	pid := c.run(t, ctx, root, "one", "sleep", "1000")
	if _, err := tasks.Create(ctx, task.CreateOptions{ContainerID: "one"}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	if start, _ := nextEvent[*eventtypes.TaskStart](t, events, "/tasks/start"); start.GetPid() != pid {
		t.Errorf("start event %v", start)
	}
	if st, err := tasks.Get(ctx, "one", ""); err != nil || st.Status != task.StatusRunning || st.PID != pid {
		t.Errorf("state %+v, %v", st, err)
	}
	if _, err := tasks.Delete(ctx, "one", ""); err == nil || !strings.Contains(err.Error(), "cannot delete a running process") {
		t.Errorf("delete of a running task: %v", err)
	}
	if err := tasks.Pause(ctx, "one"); err != nil {
		t.Error(err)
	}
	if st, err := tasks.List(ctx); err != nil || len(st) != 1 || st[0].Status != task.StatusPaused {
		t.Errorf("list of a paused task %+v, %v", st, err)
	}
	if err := tasks.Resume(ctx, "one"); err != nil {
		t.Error(err)
	}
	if procs, err := tasks.Pids(ctx, "one"); err != nil || len(procs) != 1 || procs[0].PID != pid {
		t.Errorf("pids %v, %v", procs, err)
	}
	if m, err := tasks.Metrics(ctx, "one"); err != nil || m.GetTypeUrl() == "" {
		t.Errorf("metrics %v, %v", m, err)
	}
	if st, err := tasks.List(inNamespace(ctx, "other")); err != nil || len(st) != 0 {
		t.Errorf("list of another namespace %v, %v", st, err)
	}

	err := tasks.Exec(ctx, task.ExecOptions{ContainerID: "one", ExecID: "x", Spec: anyJSON(t, "Process",
		specs.Process{Args: []string{"sh", "-c", "exit 7"}, Cwd: "/", Env: []string{"PATH=/bin"}})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.Start(ctx, "one", "x"); err != nil {
		t.Fatal(err)
	}
	if e, err := tasks.Wait(ctx, "one", "x"); err != nil || e.Code != 7 {
		t.Errorf("exec exit %+v, %v", e, err)
	}
	if e, err := tasks.Delete(ctx, "one", "x"); err != nil || e.Code != 7 {
		t.Errorf("exec delete %+v, %v", e, err)
	}
	c.remove(t, ctx, "one")
	if exit, _ := nextEvent[*eventtypes.TaskDelete](t, events, "/tasks/delete"); exit.GetExitStatus() != 137 {
		t.Errorf("delete event %v", exit)
	}
	if _, err := tasks.Get(ctx, "one", ""); !errdefs.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
	c.noneLeft(t)
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	onEachShim(t, failedCreateLeavesNothing)
	onOurShimWithRunc(t, failedCreateLeavesNothing)
}

func failedCreateLeavesNothing(t *testing.T, c *core) {
	ctx := testNamespace(t)
	c.record(t, ctx, "bad", spec(userland(t), "bad", "/no/such/command"))
	_, err := c.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: "bad"})
	if err == nil || !strings.HasPrefix(err.Error(), "failed to create shim task: ") ||
		!strings.Contains(err.Error(), `exec: "/no/such/command": stat /no/such/command: no such file or directory`) {
		t.Errorf("got %v", err)
	}
	if _, err := c.client.Tasks().Get(ctx, "bad", ""); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "task bad not found") {
		t.Errorf("get: %v", err)
	}
	c.noneLeft(t)
	if err := c.client.Containers().Delete(ctx, "bad"); err != nil {
		t.Error(err)
	}
}

func TestUnknownRuntime(t *testing.T) {
	c := start(t, newConfig(t))
	ctx := testNamespace(t)
	_, err := c.client.Containers().Create(ctx, container.Container{
		ID: "x", Runtime: container.Runtime{Name: "io.containerd.nope.v2"}, Spec: anyJSON(t, "Spec", spec("/", "x", "true"))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: "x"})
	if err == nil || errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "failed to start shim") {
		t.Errorf("got %v", err)
	}
	c.noneLeft(t)
}

func TestDeadShim(t *testing.T) {
	onEachShim(t, deadShim)
	onOurShimWithRunc(t, deadShim)
}

func deadShim(t *testing.T, c *core) {
	ctx := testNamespace(t)
	events, _ := c.client.Events().Subscribe(ctx, `topic=="/tasks/exit"`, `topic=="/tasks/delete"`)
	pid := c.run(t, ctx, userland(t), "one", "sleep", "1000")

	type result struct {
		exit task.Exit
		err  error
	}
	waited := make(chan result, 1)
	go func() {
		e, err := c.client.Tasks().Wait(ctx, "one", "")
		waited <- result{e, err}
	}()
	killed := time.Now()
	if err := syscall.Kill(c.shimOf(t, "one"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit, _ := nextEvent[*eventtypes.TaskExit](t, events, "/tasks/exit")
	if exit.GetContainerID() != "one" || exit.GetID() != "one" || exit.GetPid() != pid || exit.GetExitStatus() != 137 {
		t.Errorf("exit event %v, pid %d", exit, pid)
	}
	t.Logf("exit event after %v", time.Since(killed))
	nextEvent[*eventtypes.TaskDelete](t, events, "/tasks/delete")
	if r := <-waited; r.err != nil || r.exit.Code != 137 {
		t.Errorf("wait %+v", r)
	}
	eventually(t, "task is forgotten", func() error {
		if _, err := c.client.Tasks().Get(ctx, "one", ""); !errdefs.IsNotFound(err) {
			return fmt.Errorf("get: %v", err)
		}
		return nil
	})
	if running(pid) {
		t.Error("the init still runs")
	}
	c.noneLeft(t)
	c.remove(t, ctx, "one")
}

func TestStuckShimHoldsUpNobody(t *testing.T) {
	onEachShim(t, stuckShimHoldsUpNobody)
	onOurShimWithRunc(t, stuckShimHoldsUpNobody)
}

func stuckShimHoldsUpNobody(t *testing.T, c *core) {
	ctx := testNamespace(t)
	root := userland(t)
	c.run(t, ctx, root, "stuck", "sleep", "1000")
	c.run(t, ctx, root, "well", "sleep", "1000")
	shim := c.shimOf(t, "stuck")
	freeze(t, shim)
	defer c.remove(t, ctx, "well")
	defer c.remove(t, ctx, "stuck")
	defer syscall.Kill(shim, syscall.SIGCONT)

	asked := make(chan task.State, 1)
	go func() {
		st, err := c.client.Tasks().Get(ctx, "stuck", "")
		if err != nil {
			t.Error(err)
		}
		asked <- st
	}()
	if st, err := c.client.Tasks().Get(within(t, ctx, time.Second), "well", ""); err != nil || st.Status != task.StatusRunning {
		t.Errorf("the other task: %+v, %v", st, err)
	}
	if st := <-asked; st.Status != task.StatusUnknown || st.PID == 0 {
		t.Errorf("the stuck task: %+v", st)
	}
	if st, err := c.client.Tasks().List(within(t, ctx, 10*time.Second)); err != nil || len(st) != 2 {
		t.Errorf("list %v, %v", st, err)
	}
	if err := syscall.Kill(shim, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shim answers again", func() error {
		st, err := c.client.Tasks().Get(ctx, "stuck", "")
		if err == nil && st.Status != task.StatusRunning {
			err = fmt.Errorf("status %v", st.Status)
		}
		return err
	})
}

// freeze stops a process and waits until each of its threads stands.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "threads stop", func() error {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
				return fmt.Errorf("%s: %s", path, state)
			}
		}
		return nil
	})
}

func within(t *testing.T, ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}

func TestRestart(t *testing.T) {
	onEachShim(t, restart)
	onOurShimWithRunc(t, restart)
}

func restart(t *testing.T, c *core) {
	cfg, runtime, options := c.cfg, c.runtime, c.options
	ctx := testNamespace(t)
	root := userland(t)
	pid := c.run(t, ctx, root, "kept", "sh", "-c", "while :; do sleep 0.1; done")
	c.run(t, ctx, root, "dead", "sleep", "1000")
	c.run(t, ctx, root, "norecord", "sleep", "1000")
	dead := c.shimOf(t, "dead")
	if err := c.client.Containers().Delete(ctx, "norecord"); err != nil {
		t.Fatal(err)
	}
	c.stop(t)
	if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	leftover := filepath.Join(cfg.State, "io.containerd.runtime.v2.task/moby/orphan/rootfs")
	if err := os.MkdirAll(leftover, 0o711); err != nil {
		t.Fatal(err)
	}

	c = start(t, cfg)
	c.runtime, c.options = runtime, options
	states, err := c.client.Tasks().List(ctx)
	if err != nil || len(states) != 1 || states[0].ContainerID != "kept" ||
		states[0].PID != pid || states[0].Status != task.StatusRunning {
		t.Fatalf("tasks after the restart: %+v, %v", states, err)
	}
	if _, err := os.Stat(leftover); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("orphaned bundle is left: %v", err)
	}
	events, _ := c.client.Events().Subscribe(ctx, `event.container_id==kept`)
	if err := c.client.Tasks().Kill(ctx, "kept", "", uint32(syscall.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	if exit, _ := nextEvent[*eventtypes.TaskExit](t, events, "/tasks/exit"); exit.GetPid() != pid {
		t.Errorf("exit event of the adopted task: %v", exit)
	}
	c.remove(t, ctx, "kept")
	c.remove(t, ctx, "dead")
	c.noneLeft(t)
}

// lockedWriter collects what a process prints while the test reads it.
type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer // guarded by mu
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (l *lockedWriter) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.String()
}
