package task_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	coreevent "gantry/libctr/core/event"
	coretask "gantry/libctr/core/task"
	"gantry/libctr/event"
	"gantry/libctr/task"
)

// records are containers that are all there, on the fake shim, but for "none".
type records struct{ runtime string }

func (r records) Get(_ context.Context, id string) (container.Container, error) {
	if id == "none" {
		return container.Container{}, errdefs.NotFound("container %q: not found", id)
	}
	return container.Container{ID: id, Runtime: container.Runtime{Name: r.runtime},
		Spec: &anypb.Any{Value: []byte(`{"ociVersion":"1.0.2"}`)}}, nil
}

type fixture struct {
	*task.Manager
	cfg      task.Config
	exchange *event.Exchange
	dir      string
}

func setup(t *testing.T, mode string) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "task") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv(fakeMode, mode)
	t.Setenv(fakeLog, filepath.Join(dir, "calls"))
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the shim is built as the test is
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dir: dir, exchange: event.NewExchange()}
	f.cfg = task.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		Address: "/a.sock", TTRPCAddress: "/a.sock.ttrpc", Binary: "/bin/true",
		Containers: records{self}, Events: f.exchange,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	f.open(t)
	return f
}

func (f *fixture) open(t *testing.T) {
	t.Helper()
	m, err := task.New(t.Context(), f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Manager = m
	t.Cleanup(func() { m.Close() })
}

// calls are what the fake shim was asked, in order.
func (f *fixture) calls(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

// clean fails when a task has left something, which may take a moment to go.
func (f *fixture) clean(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if left, _ := filepath.Glob(filepath.Join(f.dir, "state/*/.*")); len(left) == 0 {
			break
		}
	}
	for _, pattern := range []string{"state/*/*", "root/*/*", "state/*/.*"} {
		if left, _ := filepath.Glob(filepath.Join(f.dir, pattern)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// killShim ends the process of a fake shim.
func (f *fixture) killShim(t *testing.T, id string) { f.signalShim(t, id, syscall.SIGKILL) }

func (f *fixture) signalShim(t *testing.T, id string, sig syscall.Signal) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, id+".sock.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(reqctx.WithNamespace(t.Context(), "ns"), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (f *fixture) create(t *testing.T, ctx context.Context, id string) {
	t.Helper()
	pid, err := f.Create(ctx, coretask.CreateOptions{ContainerID: id})
	if err != nil || pid != fakePID {
		t.Fatalf("create: pid %d, %v", pid, err)
	}
}

func TestEveryWayToAnswerStart(t *testing.T) {
	for _, mode := range []string{"protobuf", "json", "bare", "old", "grpc"} {
		t.Run(mode, func(t *testing.T) {
			f, ctx := setup(t, mode), testContext(t)
			f.create(t, ctx, "one")
			if st, err := f.Get(ctx, "one", ""); err != nil || st.Status != coretask.StatusRunning {
				t.Errorf("state %+v, %v", st, err)
			}
			if err := f.Kill(ctx, "one", "", 9, false); err != nil {
				t.Error(err)
			}
			if e, err := f.Wait(ctx, "one", ""); err != nil || e.Code != 9 || e.PID != fakePID {
				t.Errorf("wait %+v, %v", e, err)
			}
			if e, err := f.Delete(ctx, "one", ""); err != nil || e.Code != 9 || e.PID != fakePID {
				t.Errorf("delete %+v, %v", e, err)
			}
			f.clean(t)
			f.create(t, ctx, "one") // the id is free again, the old dialect known
			if _, err := f.Delete(ctx, "one", ""); err != nil {
				t.Error(err)
			}
			starts := 0
			for _, c := range f.calls(t) {
				if c == "start" {
					starts++
				}
			}
			if want := map[string]int{"old": 3}[mode]; want != 0 && starts != want || want == 0 && starts != 2 {
				t.Errorf("%d starts", starts)
			}
		})
	}
}

func TestFailedStepsAreUndone(t *testing.T) {
	cleanup := []string{"DeleteRequest", "ShutdownRequest", "delete"}
	for _, tc := range []struct {
		mode, text string
		class      error
		calls      []string // the last ones
	}{
		{"start fails", "failed to start shim: start failed: out of luck: out of memory: exit status 1", nil, []string{"start", "start"}},
		{"garbage", "failed to start shim: start failed: unsupported shim version (9)", errdefs.ErrNotImplemented, []string{"start", "delete", "start", "delete"}},
		{"create fails", "failed to create shim task: OCI runtime create failed: no such thing: one", errdefs.ErrNotFound, cleanup},
		{"create dies", "failed to create shim task: connection to shim is closed", errdefs.ErrUnavailable, []string{"CreateTaskRequest", "delete"}},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			f, ctx := setup(t, tc.mode), testContext(t)
			_, err := f.Create(ctx, coretask.CreateOptions{ContainerID: "one"})
			if err == nil || err.Error() != tc.text || (tc.class != nil && !errors.Is(err, tc.class)) {
				t.Errorf("got %v", err)
			}
			calls := f.calls(t)
			if len(calls) < len(tc.calls) || !slices.Equal(calls[len(calls)-len(tc.calls):], tc.calls) {
				t.Errorf("calls %v, want them to end in %v", calls, tc.calls)
			}
			f.clean(t)
			if left, _ := filepath.Glob(filepath.Join(f.dir, "*.sock")); len(left) > 0 && tc.mode == "create dies" {
				t.Errorf("sockets left: %v", left)
			}
			if _, err := f.Get(ctx, "one", ""); !errdefs.IsNotFound(err) {
				t.Errorf("get: %v", err)
			}
		})
	}
}

func TestCancelledCreateIsUndone(t *testing.T) {
	f := setup(t, "create hangs")
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		defer cancel()
		for !slices.Contains(f.calls(t), "CreateTaskRequest") && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := f.Create(ctx, coretask.CreateOptions{ContainerID: "one"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.clean(t)
}

// TestCallsAwaitCreate: the task that a client is making is there for its other calls.
func TestCallsAwaitCreate(t *testing.T) {
	for mode, missing := range map[string]bool{"create waits": false, "create fails late": true} {
		t.Run(mode, func(t *testing.T) {
			f := setup(t, mode)
			ctx := testContext(t)
			created := make(chan struct{})
			go func() {
				defer close(created)
				_, _ = f.Create(ctx, coretask.CreateOptions{ContainerID: "one"})
			}()
			for !slices.Contains(f.calls(t), "CreateTaskRequest") && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			if all, err := f.List(ctx); err != nil || len(all) != 0 {
				t.Errorf("list beside create: %v, %v", all, err)
			}
			if err := f.CloseIO(ctx, "one", ""); errdefs.IsNotFound(err) != missing {
				t.Errorf("call beside create: %v", err)
			}
			<-created
			if !missing {
				if _, err := f.Delete(ctx, "one", ""); err != nil {
					t.Error(err)
				}
			}
			f.clean(t)
		})
	}
}

func TestRefusedBeforeAnythingIsMade(t *testing.T) {
	f, ctx := setup(t, "protobuf"), testContext(t)
	for _, tc := range []struct {
		name string
		ctx  context.Context
		o    coretask.CreateOptions
		want error
	}{
		{"no namespace", context.Background(), coretask.CreateOptions{ContainerID: "one"}, errdefs.ErrFailedPrecondition},
		{"namespace is a path", reqctx.WithNamespace(ctx, "../x"), coretask.CreateOptions{ContainerID: "one"}, errdefs.ErrInvalidArgument},
		{"id is a path", ctx, coretask.CreateOptions{ContainerID: "../../etc"}, errdefs.ErrInvalidArgument},
		{"no container", ctx, coretask.CreateOptions{ContainerID: "none"}, errdefs.ErrNotFound},
	} {
		if _, err := f.Create(tc.ctx, tc.o); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := f.Create(ctx, coretask.CreateOptions{ContainerID: "one", ShimPath: "bin/shim"}); err == nil || errdefs.Class(err) != nil {
		t.Errorf("relative shim: %v", err)
	}
	if err := f.Exec(ctx, coretask.ExecOptions{ContainerID: "one", ExecID: "a/b"}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("exec id is a path: %v", err)
	}
	f.clean(t)
	if calls := f.calls(t); len(calls) > 0 {
		t.Errorf("the shim was asked %v", calls)
	}
}

func TestLostConnectionIsNoDeath(t *testing.T) {
	for _, mode := range []string{"protobuf", "grpc"} {
		t.Run(mode, func(t *testing.T) { testLostConnection(t, setup(t, mode)) })
	}
}

func testLostConnection(t *testing.T, f *fixture) {
	ctx := testContext(t)
	f.create(t, ctx, "one")
	waited := make(chan error, 1)
	go func() {
		e, err := f.Wait(ctx, "one", "")
		if err == nil && e.Code != 9 {
			err = fmt.Errorf("exit %+v", e)
		}
		waited <- err
	}()
	_ = f.Kill(ctx, "one", "", cutSignal, false) // its answer is lost
	if st, err := f.Get(ctx, "one", ""); err != nil || st.Status != coretask.StatusRunning {
		t.Errorf("state after the loss: %+v, %v", st, err)
	}
	if err := f.Kill(ctx, "one", "", 9, false); err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("wait over the loss: %v", err)
	}
	if _, err := f.Delete(ctx, "one", ""); err != nil {
		t.Error(err)
	}
	f.clean(t)
}

// TestKillInLoss sends KILL while the connection is down: it reaches a shim that lives,
// and of one that is dead there is nothing to kill.
func TestKillInLoss(t *testing.T) {
	for name, tc := range map[string]struct {
		signal uint32
		want   func(error) bool
	}{
		"cut":  {cutSignal, func(err error) bool { return err == nil }},
		"dead": {dieSignal, errdefs.IsNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f, ctx := setup(t, "protobuf"), testContext(t)
			f.create(t, ctx, "one")
			_ = f.Kill(ctx, "one", "", tc.signal, false) // its answer is lost
			if err := f.Kill(ctx, "one", "", 9, true); !tc.want(err) {
				t.Errorf("kill: %v", err)
			}
			if _, err := f.Wait(ctx, "one", ""); err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("wait: %v", err)
			}
			if _, err := f.Delete(ctx, "one", ""); err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("delete: %v", err)
			}
			if _, err := f.Get(ctx, "one", ""); !errdefs.IsNotFound(err) {
				t.Errorf("the task is still there: %v", err)
			}
			f.clean(t)
		})
	}
}

func TestDeathIsTold(t *testing.T) {
	for _, tc := range []struct {
		mode string
		code uint32
	}{
		{"protobuf", 137},
		{"grpc", 137},
		{"delete fails", 255},
		{"delete fails once", 137},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			f, ctx := setup(t, tc.mode), testContext(t)
			events, _ := f.exchange.Subscribe(ctx)
			f.create(t, ctx, "one")
			_ = f.Kill(ctx, "one", "", dieSignal, false)
			var topics []string
			for range 2 {
				e := <-events
				topics = append(topics, e.Topic)
				v, err := typeurl.UnmarshalAny(e.Event)
				if err != nil {
					t.Fatal(err)
				}
				if x, ok := v.(*eventtypes.TaskExit); ok && (x.GetExitStatus() != tc.code || x.GetPid() != fakePID || x.GetExitedAt().AsTime().IsZero()) {
					t.Errorf("exit event %v", x)
				}
			}
			if want := []string{"/tasks/exit", "/tasks/delete"}; !slices.Equal(topics, want) {
				t.Errorf("events %v, want %v", topics, want)
			}
			for { // until it is buried
				if _, err := f.Delete(ctx, "one", ""); errdefs.IsNotFound(err) {
					break
				}
			}
			f.clean(t)
			if _, err := os.Stat(filepath.Join(f.dir, "one.sock")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("socket of the dead shim: %v", err)
			}
		})
	}
}

func TestExitIsToldOnce(t *testing.T) {
	f, ctx := setup(t, "protobuf"), testContext(t)
	events, _ := f.exchange.Subscribe(ctx)
	f.create(t, ctx, "one")
	a, err := typeurl.MarshalAny(&eventtypes.TaskExit{ContainerID: "one", ID: "one", Pid: fakePID, ExitStatus: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Forward(ctx, &coreevent.Envelope{Timestamp: time.Now(), Namespace: "ns", Topic: "/tasks/exit", Event: a}); err != nil {
		t.Fatal(err)
	}
	waited := make(chan coretask.Exit, 1)
	go func() {
		e, _ := f.Wait(ctx, "one", "")
		waited <- e
	}()
	_ = f.Kill(ctx, "one", "", dieSignal, false)
	if e := <-waited; e.Code != 3 {
		t.Errorf("wait tells %+v, the shim had told 3", e)
	}
	for _, want := range []string{"/tasks/exit", "/tasks/delete"} {
		if e := <-events; e.Topic != want {
			t.Errorf("event %s, want %s", e.Topic, want)
		}
	}
}

func TestReload(t *testing.T) {
	for _, mode := range []string{"protobuf", "grpc"} {
		t.Run(mode, func(t *testing.T) { testReload(t, setup(t, mode)) })
	}
}

func testReload(t *testing.T, f *fixture) {
	ctx := testContext(t)
	for _, id := range []string{"kept", "dead"} {
		f.create(t, ctx, id)
	}
	f.Close()
	if err := f.Kill(ctx, "kept", "", 9, false); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("call on a closed manager: %v", err)
	}
	if _, err := f.Create(ctx, coretask.CreateOptions{ContainerID: "late"}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("create on a closed manager: %v", err)
	}
	stale := filepath.Join(f.cfg.Root, "ns", "stale")
	half := filepath.Join(f.cfg.State, "ns", ".half")
	for _, dir := range []string{stale, half} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// What a launch left that died before it noted its socket, and what somebody serves.
	unheard, heard := filepath.Join(f.cfg.State, "s", "unheard"), filepath.Join(f.cfg.State, "s", "heard")
	for _, path := range []string{unheard, heard} {
		if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
			t.Fatal(err)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if path == heard {
			defer l.Close()
		} else {
			l.Close()
		}
	}
	f.killShim(t, "dead")
	events, _ := f.exchange.Subscribe(ctx, `topic=="/tasks/exit"`)
	f.open(t)
	if e := <-events; e.Namespace != "ns" {
		t.Errorf("exit event %+v", e)
	}
	if st, err := f.List(ctx); err != nil || len(st) != 1 || st[0].ContainerID != "kept" || st[0].PID != fakePID {
		t.Errorf("tasks %+v, %v", st, err)
	}
	if ids, err := f.IDs(ctx); err != nil || !slices.Equal(ids, []string{"kept"}) {
		t.Errorf("ids %v, %v", ids, err)
	}
	if err := os.Remove(heard); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{stale, half, unheard} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if _, err := f.Delete(ctx, "kept", ""); err != nil {
		t.Error(err)
	}
	f.clean(t)
}

// TestShimWithoutTask finds a shim that was executed, and no more: the one before us has
// died before it made the task.
func TestShimWithoutTask(t *testing.T) {
	f, ctx := setup(t, "forgets"), testContext(t)
	f.create(t, ctx, "one")
	f.Close()
	f.open(t)
	if st, err := f.List(ctx); err != nil || len(st) != 0 {
		t.Errorf("tasks %+v, %v", st, err)
	}
	f.create(t, ctx, "one")
	if _, err := f.Delete(ctx, "one", ""); err != nil {
		t.Error(err)
	}
	f.clean(t)
}

// TestNotForShims has what a shim would die of.
func TestNotForShims(t *testing.T) {
	f, ctx := setup(t, "protobuf"), testContext(t)
	f.create(t, ctx, "one")
	if err := f.Exec(ctx, coretask.ExecOptions{ContainerID: "one", ExecID: "e"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("exec without a process: %v", err)
	}
	if err := f.Update(ctx, "one", nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("update without resources: %v", err)
	}
	if err := f.Update(ctx, "none", nil, nil); !errdefs.IsNotFound(err) {
		t.Errorf("update of no task: %v", err)
	}
	if _, err := f.Delete(ctx, "one", ""); err != nil {
		t.Error(err)
	}
	f.clean(t)
}

func TestInfoIsAskedOnce(t *testing.T) {
	f, ctx := setup(t, "protobuf"), testContext(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if info, err := f.Info(ctx, self, nil); err != nil || info.GetName() != "fake" {
			t.Errorf("info %v, %v", info, err)
		}
	}
	if calls := f.calls(t); !slices.Equal(calls, []string{"-info"}) {
		t.Errorf("calls %v", calls)
	}
	if _, err := f.Info(ctx, "io.containerd.nope.v9", nil); !errors.Is(err, os.ErrNotExist) || errdefs.Class(err) != nil {
		t.Errorf("unknown runtime: %v", err)
	}
}

// Who asks a shim again that did not answer is not made to wait as long again; once it
// answers it has its usual time.
func TestStuckShim(t *testing.T) {
	for _, mode := range []string{"protobuf", "grpc"} {
		t.Run(mode, func(t *testing.T) { testStuckShim(t, setup(t, mode)) })
	}
}

func testStuckShim(t *testing.T, f *fixture) {
	ctx := testContext(t)
	f.create(t, ctx, "c")
	f.signalShim(t, "c", syscall.SIGSTOP)
	get := func(within time.Duration, want coretask.Status) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		if st, err := f.Get(ctx, "c", ""); err != nil || st.Status != want || st.PID != fakePID {
			t.Errorf("state %+v, %v", st, err)
		}
	}
	until := func(want coretask.Status) { // a signal takes a moment
		for ctx.Err() == nil {
			if st, err := f.Get(ctx, "c", ""); err == nil && st.Status == want {
				return
			}
		}
	}
	until(coretask.StatusUnknown)
	get(1500*time.Millisecond, coretask.StatusUnknown)
	f.signalShim(t, "c", syscall.SIGCONT)
	until(coretask.StatusRunning)
	get(20*time.Second, coretask.StatusRunning)
	if _, err := f.Delete(ctx, "c", ""); err != nil {
		t.Error(err)
	}
	f.clean(t)
}

// stopShim stops a shim and waits until no thread of it runs.
func (f *fixture) stopShim(t *testing.T, ctx context.Context, id string) {
	t.Helper()
	f.signalShim(t, id, syscall.SIGSTOP)
	pid, err := os.ReadFile(filepath.Join(f.dir, id+".sock.pid"))
	if err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		stats, _ := filepath.Glob("/proc/" + string(pid) + "/task/*/stat")
		if !slices.ContainsFunc(stats, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && !strings.Contains(string(stat), ") T ")
		}) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestReloadWithStuckShims starts anew beside ten shims that do not answer: that takes no
// longer than one of them, the others are there at once, and those too when they speak.
func TestReloadWithStuckShims(t *testing.T) {
	f, ctx := setup(t, "protobuf"), testContext(t)
	const stuck = 10
	ids := []string{"well"}
	f.create(t, ctx, "well")
	for i := range stuck {
		ids = append(ids, fmt.Sprint("stuck-", i))
		f.create(t, ctx, ids[i+1])
	}
	f.Close()
	for _, id := range ids[1:] {
		f.stopShim(t, ctx, id)
	}
	began := time.Now()
	f.open(t)
	if took := time.Since(began); took > 5*time.Second { // one after the other it would be 20 s
		t.Errorf("the start took %v", took)
	}
	within, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	states, err := f.List(within)
	if err != nil || len(states) != stuck+1 {
		t.Fatalf("%d tasks, %v", len(states), err)
	}
	for _, st := range states {
		want := coretask.StatusUnknown
		if st.ContainerID == "well" {
			want = coretask.StatusRunning
		}
		if st.Status != want {
			t.Errorf("state %+v", st)
		}
	}
	if _, err := f.Delete(within, "well", ""); err != nil {
		t.Errorf("delete beside stuck ones: %v", err)
	}
	for _, id := range ids[1:] {
		f.signalShim(t, id, syscall.SIGCONT)
	}
	for _, id := range ids[1:] {
		for ctx.Err() == nil {
			if st, err := f.Get(ctx, id, ""); err == nil && st.Status == coretask.StatusRunning {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := f.Delete(ctx, id, ""); err != nil {
			t.Errorf("delete %s: %v", id, err)
		}
	}
	f.clean(t)
}
