package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/task"
	"gantry/libctr/sandbox/sandboxtest"
	"gantry/libctr/server"
	"gantry/libctr/services/sandboxcontroller"
)

const ourRuntime = "io.containerd.gantry.v2"

// startPods starts a core with our shim.
func startPods(t *testing.T) *core {
	t.Helper()
	needRunc(t)
	cfg := newConfig(t)
	cfg.ShimDir = binaries(t)
	c := start(t, cfg)
	c.runtime = ourRuntime
	return c
}

func TestSandboxStore(t *testing.T) {
	var n int
	c := start(t, newConfig(t))
	sandboxtest.Store(t, func(t *testing.T) sandbox.Store {
		n++
		return spaced{c.client.Sandboxes(), fmt.Sprintf("s%d-", n)}
	})
}

// spaced gives each test namespaces of its own on a store that all share.
type spaced struct {
	sandbox.Store
	prefix string
}

func (s spaced) in(ctx context.Context) context.Context {
	if ns := reqctx.Namespace(ctx); ns != "" {
		return reqctx.WithNamespace(ctx, s.prefix+ns)
	}
	return ctx
}

func (s spaced) Get(ctx context.Context, id string) (sandbox.Sandbox, error) {
	return s.Store.Get(s.in(ctx), id)
}

func (s spaced) List(ctx context.Context, filters ...string) ([]sandbox.Sandbox, error) {
	return s.Store.List(s.in(ctx), filters...)
}

func (s spaced) Create(ctx context.Context, sb sandbox.Sandbox) (sandbox.Sandbox, error) {
	return s.Store.Create(s.in(ctx), sb)
}

func (s spaced) Update(ctx context.Context, sb sandbox.Sandbox, fieldpaths ...string) (sandbox.Sandbox, error) {
	return s.Store.Update(s.in(ctx), sb, fieldpaths...)
}

func (s spaced) Delete(ctx context.Context, id string) error { return s.Store.Delete(s.in(ctx), id) }

// TestSandboxController holds our controller to its suite: in process, over gRPC, and
// through the proxy plugin of a core, which knows it by another name.
func TestSandboxController(t *testing.T) {
	c := startPods(t)
	plugin, err := c.Plugin("io.containerd.sandbox.controller.v1.shim")
	if err != nil {
		t.Fatal(err)
	}
	local := plugin.(sandbox.Controller)
	cfg := newConfig(t)
	cfg.ProxyPlugins = map[string]server.ProxyPlugin{"far": {Type: "sandbox", Address: serveController(t, "far", local)}}
	near := start(t, cfg)
	for name, controller := range map[string]sandbox.Controller{
		"local": local, "gRPC": c.client.SandboxController("shim"), "proxy": near.client.SandboxController("far"),
	} {
		t.Run(name, func(t *testing.T) {
			sandboxtest.Controller(t, controller, ourRuntime, "sandbox-"+name)
			c.noneLeft(t)
		})
	}
	ctx := testNamespace(t)
	if _, err := c.client.SandboxController("").Status(ctx, "x", false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no controller: %v", err)
	}
	if _, err := c.client.SandboxController("far").Status(ctx, "x", false); !errdefs.IsNotFound(err) {
		t.Errorf("a controller that is not there: %v", err)
	}
}

// serveController is another process's controller, as far as a core can see.
func serveController(t *testing.T, name string, c sandbox.Controller) string {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return handle(reqctx.WithNamespace(ctx, strings.Join(md.Get("containerd-namespace"), "")), r)
	}))
	sandboxcontroller.New(map[string]sandbox.Controller{name: c}, nil, nil).Register(srv)
	go srv.Serve(l) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

// TestSandboxOfForeignShim is refused where the shim has no such service.
func TestSandboxOfForeignShim(t *testing.T) {
	c := startPods(t)
	ctx := testNamespace(t)
	err := c.client.SandboxController("shim").Create(ctx,
		sandbox.Sandbox{ID: "pod", Runtime: sandbox.Runtime{Name: "io.containerd.runc.v2"}}, sandbox.CreateOptions{})
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "does not serve sandboxes") {
		t.Errorf("create: %v", err)
	}
	c.noneLeft(t)
}

// pod is a sandbox that runs.
type pod struct {
	*core
	sandbox.Controller
	id  string
	pid uint32
}

func (c *core) startPod(t *testing.T, ctx context.Context, id string) pod {
	t.Helper()
	record, err := c.client.Sandboxes().Create(ctx, sandbox.Sandbox{ID: id, Sandboxer: "shim", Runtime: sandbox.Runtime{Name: ourRuntime}})
	if err != nil {
		t.Fatal(err)
	}
	p := pod{c, c.client.SandboxController("shim"), id, 0}
	if err := p.Create(ctx, record, sandbox.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	i, err := p.Start(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	p.pid = i.PID
	return p
}

// join runs a container in the pod.
func (p pod) join(t *testing.T, ctx context.Context, id string, s *specs.Spec) uint32 {
	t.Helper()
	_, err := p.client.Containers().Create(ctx, container.Container{
		ID: id, Runtime: container.Runtime{Name: p.runtime}, Spec: anyJSON(t, "Spec", s), SandboxID: p.id})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := p.client.Tasks().Create(ctx, task.CreateOptions{ContainerID: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.client.Tasks().Start(ctx, id, ""); err != nil {
		t.Fatal(err)
	}
	return pid
}

func (p pod) containers(t *testing.T, ctx context.Context) string {
	t.Helper()
	st, err := p.Status(ctx, p.id, true)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	if err := json.Unmarshal([]byte(st.Info["containers"]), &ids); err != nil {
		t.Fatal(err)
	}
	return strings.Join(ids, " ")
}

// TestPod drives a pod of two containers as a client does, over a restart of the core.
func TestPod(t *testing.T) {
	c := startPods(t)
	ctx := testNamespace(t)
	events, _ := c.client.Events().Subscribe(ctx, `topic~="^/sandboxes/"`)
	p := c.startPod(t, ctx, "pod")
	if e, _ := nextEvent[*eventtypes.SandboxCreate](t, events, "/sandboxes/create"); e.GetSandboxID() != "pod" {
		t.Errorf("event %v", e)
	}
	if e, _ := nextEvent[*eventtypes.SandboxStart](t, events, "/sandboxes/start"); e.GetSandboxID() != "pod" {
		t.Errorf("event %v", e)
	}
	root := userland(t)
	a := p.join(t, ctx, "a", spec(root, "a", "sleep", "1000"))
	b := p.join(t, ctx, "b", spec(root, "b", "sleep", "1000"))
	if have := c.processes(t); len(have) != 1 || have[0].pid != int(p.pid) {
		t.Errorf("shims %v, want one of pid %d", have, p.pid)
	}
	if ids := p.containers(t, ctx); ids != "a b" {
		t.Errorf("containers %q", ids)
	}
	if m, err := p.Metrics(ctx, "pod"); err != nil || m.GetData() == nil {
		t.Errorf("metrics %v, %v", m, err)
	}

	cfg := c.cfg
	c.stop(t)
	c = start(t, cfg)
	c.runtime = ourRuntime
	p.core, p.Controller = c, c.client.SandboxController("shim")
	if st, err := p.Status(ctx, "pod", false); err != nil || st.State != sandbox.Ready || st.PID != p.pid {
		t.Errorf("after the restart: %+v, %v", st, err)
	}
	if list, err := c.client.Sandboxes().List(ctx); err != nil || len(list) != 1 {
		t.Errorf("records %v, %v", list, err)
	}
	for id, pid := range map[string]uint32{"a": a, "b": b} {
		if st, err := c.client.Tasks().Get(ctx, id, ""); err != nil || st.Status != task.StatusRunning || st.PID != pid {
			t.Errorf("task %s after the restart: %+v, %v", id, st, err)
		}
	}
	exec := task.ExecOptions{ContainerID: "b", ExecID: "e", Spec: anyJSON(t, "Process", spec(root, "b", "true").Process)}
	if err := c.client.Tasks().Exec(ctx, exec); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Tasks().Start(ctx, "b", "e"); err != nil {
		t.Fatal(err)
	}
	if e, err := c.client.Tasks().Wait(ctx, "b", "e"); err != nil || e.Code != 0 {
		t.Errorf("exec: %+v, %v", e, err)
	}

	c.remove(t, ctx, "a") // the others go on
	c.remove(t, ctx, "b") // and so does the sandbox without any
	p.join(t, ctx, "c", spec(root, "c", "sleep", "1000"))
	if have := c.processes(t); len(have) != 1 || have[0].pid != int(p.pid) {
		t.Errorf("shims %v, want one of pid %d", have, p.pid)
	}

	if err := p.Stop(ctx, "pod", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if e, err := c.client.Tasks().Wait(ctx, "c", ""); err != nil || e.Code != 137 {
		t.Errorf("container of a stopped sandbox: %+v, %v", e, err)
	}
	events, _ = c.client.Events().Subscribe(ctx, `topic~="^/sandboxes/"`)
	if e, err := p.Wait(ctx, "pod"); err != nil || e.Code != 0 {
		t.Errorf("exit %+v, %v", e, err)
	}
	if e, _ := nextEvent[*eventtypes.SandboxExit](t, events, "/sandboxes/exit"); e.GetSandboxID() != "pod" {
		t.Errorf("event %v", e)
	}
	if err := p.Shutdown(ctx, "pod"); err != nil { // with a task that nobody has deleted
		t.Fatal(err)
	}
	eventually(t, "task of a sandbox that is gone", func() error {
		if _, err := c.client.Tasks().Get(ctx, "c", ""); !errdefs.IsNotFound(err) {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
	if err := c.client.Containers().Delete(ctx, "c"); err != nil {
		t.Error(err)
	}
	if err := c.client.Sandboxes().Delete(ctx, "pod"); err != nil {
		t.Error(err)
	}
	c.noneLeft(t)
}

// TestPodDies kills the shim of a pod, with the core there and without.
func TestPodDies(t *testing.T) {
	for _, absent := range []bool{false, true} {
		t.Run(fmt.Sprintf("core absent=%v", absent), func(t *testing.T) {
			c := startPods(t)
			ctx := testNamespace(t)
			p := c.startPod(t, ctx, "pod")
			root := userland(t)
			pids := []uint32{p.join(t, ctx, "a", spec(root, "a", "sleep", "1000")), p.join(t, ctx, "b", spec(root, "b", "sleep", "1000"))}
			if absent {
				cfg := c.cfg
				c.stop(t)
				kill(t, p.pid)
				c = start(t, cfg)
				p.core, p.Controller = c, c.client.SandboxController("shim")
			} else {
				exited := make(chan sandbox.Exit, 1)
				go func() {
					e, err := p.Wait(ctx, "pod")
					if err != nil {
						t.Errorf("wait: %v", err)
					}
					exited <- e
				}()
				kill(t, p.pid)
				if e := <-exited; e.Code != 137 {
					t.Errorf("exit of a sandbox whose shim was killed: %+v", e)
				}
			}
			eventually(t, "end of a dead pod", func() error {
				st, err := p.Status(ctx, "pod", false)
				if err != nil || st.State != "" {
					return fmt.Errorf("%+v, %w", st, err)
				}
				for _, pid := range pids {
					if running(pid) {
						return fmt.Errorf("process %d runs", pid)
					}
				}
				if err := p.Shutdown(ctx, "pod"); !errdefs.IsNotFound(err) { // once its shim is forgotten
					return fmt.Errorf("shutdown: %v", err)
				}
				return nil
			})
			c.noneLeft(t)
		})
	}
}

func kill(t *testing.T, pid uint32) {
	t.Helper()
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestPodWithProcess gives the sandbox a root file system, and so a process of its own.
func TestPodWithProcess(t *testing.T) {
	c := startPods(t)
	ctx := testNamespace(t)
	root := userland(t)
	s := spec(root, "pause", "sleep", "1000")
	s.Root.Path = "rootfs"
	controller := c.client.SandboxController("shim")
	err := controller.Create(ctx,
		sandbox.Sandbox{ID: "pod", Runtime: sandbox.Runtime{Name: ourRuntime}, Spec: anyJSON(t, "Spec", s)},
		sandbox.CreateOptions{Rootfs: []mount.Mount{{Type: "bind", Source: root, Options: []string{"rbind", "rw"}}}})
	if err != nil {
		t.Fatal(err)
	}
	i, err := controller.Start(ctx, "pod")
	if err != nil {
		t.Fatal(err)
	}
	argv, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(i.PID), "cmdline"))
	if !slices.Equal(strings.Split(strings.TrimRight(string(argv), "\x00"), "\x00"), []string{"sleep", "1000"}) {
		t.Errorf("pid %d is %q", i.PID, argv)
	}
	p := pod{c, controller, "pod", i.PID}
	p.join(t, ctx, "a", spec(root, "a", "sleep", "1000"))
	kill(t, i.PID)
	if e, err := p.Wait(ctx, "pod"); err != nil || e.Code != 137 {
		t.Errorf("exit of the sandbox's process: %+v, %v", e, err)
	}
	if st, err := p.Status(ctx, "pod", false); err != nil || st.State != sandbox.NotReady {
		t.Errorf("status %+v, %v", st, err)
	}
	if st, err := c.client.Tasks().Get(ctx, "a", ""); err != nil || st.Status != task.StatusRunning {
		t.Errorf("its container: %+v, %v", st, err)
	}
	c.remove(t, ctx, "a")
	if err := p.Shutdown(ctx, "pod"); err != nil {
		t.Error(err)
	}
	c.noneLeft(t)
}
