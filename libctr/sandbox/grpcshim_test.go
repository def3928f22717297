package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	core "gantry/libctr/core/sandbox"
	coretask "gantry/libctr/core/task"
	"gantry/libctr/event"
	"gantry/libctr/sandbox"
	"gantry/libctr/task"
)

// The test binary is its own shim, one that speaks gRPC, when this is set.
const shimMode = "FAKE_SANDBOX_SHIM"

func TestMain(m *testing.M) {
	if os.Getenv(shimMode) != "" {
		if err := fakeShimMain(os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func fakeShimMain(action string) error {
	switch action {
	case "start":
		return fakeStart()
	case "serve":
		return fakeServe()
	case "delete":
		return answer(&taskapi.DeleteResponse{ExitStatus: 137, ExitedAt: timestamppb.Now()})
	}
	return fmt.Errorf("unknown action %q", action)
}

func answer(m proto.Message) error {
	raw, err := proto.Marshal(m)
	if err == nil {
		_, err = os.Stdout.Write(raw)
	}
	return err
}

// fakeStart leaves its process's pid in the bundle, as shims do.
func fakeStart() error {
	bundle, err := os.Getwd()
	if err != nil {
		return err
	}
	address := filepath.Join(os.Getenv(shimMode), filepath.Base(bundle)) // a short path
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "-id", filepath.Base(bundle), "serve")
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{f}, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile("shim.pid", fmt.Append(nil, cmd.Process.Pid), 0o600); err != nil {
		return err
	}
	return answer(&bootstrapapi.BootstrapResult{Version: 3, Address: address, Protocol: "grpc"})
}

func fakeServe() error {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, r any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("containerd-namespace")) != 1 {
			return nil, fmt.Errorf("%s without a namespace", info.FullMethod)
		}
		return handle(ctx, r)
	}))
	f := &grpcShim{stopped: make(chan struct{})}
	sandboxapi.RegisterSandboxServer(s, f)
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "containerd.task.v3.Task", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Create",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var r taskapi.CreateTaskRequest
			return &taskapi.CreateTaskResponse{Pid: uint32(os.Getpid())}, decode(&r)
		},
	}, {
		MethodName: "Delete",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var r taskapi.DeleteRequest
			return &taskapi.DeleteResponse{ExitStatus: 5, ExitedAt: timestamppb.Now()}, decode(&r)
		},
	}}}, f)
	return s.Serve(l)
}

// grpcShim serves one sandbox.
type grpcShim struct {
	sandboxapi.UnimplementedSandboxServer
	once    sync.Once
	stopped chan struct{}
}

func (f *grpcShim) CreateSandbox(_ context.Context, r *sandboxapi.CreateSandboxRequest) (*sandboxapi.CreateSandboxResponse, error) {
	if r.GetSandboxID() != "pod" || r.GetNetnsPath() != "/net" || r.GetAnnotations()["a"] != "b" || string(r.GetOptions().GetValue()) != "o" {
		return nil, fmt.Errorf("asked for %v", r)
	}
	return &sandboxapi.CreateSandboxResponse{}, nil
}

func (f *grpcShim) StartSandbox(context.Context, *sandboxapi.StartSandboxRequest) (*sandboxapi.StartSandboxResponse, error) {
	return &sandboxapi.StartSandboxResponse{Pid: uint32(os.Getpid()), CreatedAt: timestamppb.Now()}, nil
}

func (f *grpcShim) Platform(context.Context, *sandboxapi.PlatformRequest) (*sandboxapi.PlatformResponse, error) {
	return &sandboxapi.PlatformResponse{Platform: &types.Platform{OS: "plan9", Architecture: "mips"}}, nil
}

func (f *grpcShim) WaitSandbox(context.Context, *sandboxapi.WaitSandboxRequest) (*sandboxapi.WaitSandboxResponse, error) {
	<-f.stopped
	return &sandboxapi.WaitSandboxResponse{ExitStatus: 4, ExitedAt: timestamppb.Now()}, nil
}

func (f *grpcShim) StopSandbox(context.Context, *sandboxapi.StopSandboxRequest) (*sandboxapi.StopSandboxResponse, error) {
	f.once.Do(func() { close(f.stopped) })
	return &sandboxapi.StopSandboxResponse{}, nil
}

func (f *grpcShim) SandboxStatus(_ context.Context, r *sandboxapi.SandboxStatusRequest) (*sandboxapi.SandboxStatusResponse, error) {
	return &sandboxapi.SandboxStatusResponse{SandboxID: r.GetSandboxID(), State: "odd", Extra: &anypb.Any{TypeUrl: "x"}}, nil
}

func (f *grpcShim) ShutdownSandbox(context.Context, *sandboxapi.ShutdownSandboxRequest) (*sandboxapi.ShutdownSandboxResponse, error) {
	time.AfterFunc(50*time.Millisecond, func() { os.Exit(0) })
	return &sandboxapi.ShutdownSandboxResponse{}, nil
}

// records are those of one container, of the sandbox.
type records struct{ runtime string }

func (r records) Get(_ context.Context, id string) (container.Container, error) {
	if id != "member" {
		return container.Container{}, errdefs.NotFound("container %q: not found", id)
	}
	return container.Container{ID: id, SandboxID: "pod", Runtime: container.Runtime{Name: r.runtime}, Spec: &anypb.Any{Value: []byte("{}")}}, nil
}

// TestShimOfGRPC drives a sandbox whose shim speaks gRPC, with a container in it, over a
// restart of the manager.
func TestShimOfGRPC(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t.Setenv(shimMode, dir)
	config := task.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), Address: filepath.Join(dir, "core.sock"), Binary: "/none",
		Containers: records{self}, Events: event.NewExchange(),
	}
	open := func() (*task.Manager, *sandbox.Controller) {
		t.Helper()
		m, err := task.New(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		return m, sandbox.New(sandbox.Of(m), nil)
	}
	m, c := open()
	defer func() { m.Close() }()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	pod := core.Sandbox{ID: "pod", Runtime: core.Runtime{Name: self}}
	err = c.Create(ctx, pod, core.CreateOptions{NetNSPath: "/net", Annotations: map[string]string{"a": "b"}, Options: &anypb.Any{Value: []byte("o")}})
	if err != nil {
		t.Fatal(err)
	}
	i, err := c.Start(ctx, "pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(int(i.PID), syscall.SIGKILL) }) // after a failure
	if !strings.HasPrefix(i.Address, "grpc+") || i.Version != 3 {
		t.Errorf("started %+v", i)
	}
	if p, err := c.Platform(ctx, "pod"); err != nil || p.OS != "plan9" {
		t.Errorf("platform %+v, %v", p, err)
	}
	if pid, err := m.Create(ctx, coretask.CreateOptions{ContainerID: "member"}); err != nil || pid != i.PID {
		t.Errorf("a container's init is %d, %v; the shim says %d of itself", pid, err, i.PID)
	}
	if e, err := m.Delete(ctx, "member", ""); err != nil || e.Code != 5 {
		t.Errorf("delete: %+v, %v", e, err)
	}

	m.Close()
	m, c = open()
	if st, err := c.Status(ctx, "pod", false); err != nil || st.State != "odd" || st.Extra == nil || st.Address != i.Address {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, err := c.Metrics(ctx, "pod"); !errdefs.IsNotImplemented(err) {
		t.Errorf("what the shim does not have: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() {
		if err := c.Stop(ctx, "pod", 0); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if e, err := c.Wait(ctx, "pod"); err != nil || e.Code != 4 {
		t.Errorf("exit %+v, %v", e, err)
	}
	if err := c.Shutdown(ctx, "pod"); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := syscall.Kill(int(i.PID), 0); !errors.Is(err, syscall.ESRCH) && !zombie(i.PID) {
		t.Errorf("the shim goes on: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "state/testing/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// zombie is what nobody may reap in a container without an init.
func zombie(pid uint32) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(raw), ") Z ")
}
