package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
)

// The test binary is its own shim when fakeMode is set; what is called is logged,
// one line each, in the file named by fakeLog.
const (
	fakeMode = "FAKE_SHIM_MODE"
	fakeLog  = "FAKE_SHIM_LOG"
	fakePID  = 4242
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		if err := fakeShim(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func fakeShim(mode string, args []string) error {
	action := args[len(args)-1]
	note(action)
	switch action {
	case "start":
		return fakeStart(mode, args)
	case "serve":
		return fakeServe(mode)
	case "delete":
		noted, _ := os.ReadFile(os.Getenv(fakeLog))
		if mode == "delete fails" || mode == "delete fails once" && strings.Count(string(noted), "delete\n") == 1 {
			return errors.New("can't clean up")
		}
		return print(&taskapi.DeleteResponse{Pid: fakePID, ExitStatus: 137, ExitedAt: timestamppb.Now()})
	case "-info":
		return print(&types.RuntimeInfo{Name: "fake", Version: &types.RuntimeVersion{Version: "1"}})
	}
	return fmt.Errorf("unknown action %q", action)
}

func print(m proto.Message) error {
	data, err := proto.Marshal(m)
	if err == nil {
		_, err = os.Stdout.Write(data)
	}
	return err
}

func note(line string) {
	f, err := os.OpenFile(os.Getenv(fakeLog), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(f, line)
	f.Close()
}

func fakeStart(mode string, args []string) error {
	if mode == "start fails" {
		fmt.Println("out of luck")
		return errors.New("out of memory")
	}
	if mode == "garbage" {
		fmt.Println(`{"version": 9, "address": "unix:///x"}`)
		return nil
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if err := checkStart(mode, args, stdin); err != nil {
		return err
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	address := filepath.Join(filepath.Dir(os.Getenv(fakeLog)), filepath.Base(wd)+".sock")
	os.Remove(address)
	cmd := exec.Command("/proc/self/exe", "serve")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		return err
	}
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(address+".pid", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	return answer(mode, "unix://"+address)
}

// checkStart looks at what a shim is told by the start protocol.
func checkStart(mode string, args []string, stdin []byte) error {
	if mode == "old" {
		if len(stdin) > 0 {
			return errors.New("wants runtime options or nothing on stdin")
		}
		return nil
	}
	var p bootstrapapi.BootstrapParams
	if err := proto.Unmarshal(stdin, &p); err != nil {
		return err
	}
	want := fmt.Sprintf("-namespace %s -address %s -publish-binary %s -id %s start",
		p.GetNamespace(), p.GetContainerdGrpcAddress(), p.GetContainerdBinary(), p.GetInstanceID())
	if got := strings.Join(args, " "); got != want || p.GetNamespace() == "" || p.GetInstanceID() == "" {
		return fmt.Errorf("flags %q, parameters say %q", got, want)
	}
	if os.Getenv("TTRPC_ADDRESS") != p.GetContainerdTtrpcAddress() || os.Getenv("NAMESPACE") != p.GetNamespace() {
		return errors.New("environment and parameters differ")
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		return errors.New("the engine's service manager is not the shim's business")
	}
	return nil
}

func answer(mode, address string) error {
	switch mode {
	case "bare", "old":
		fmt.Println(address)
		return nil
	case "json":
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"version": 3, "address": address, "protocol": "ttrpc"})
	}
	protocol := "ttrpc"
	if mode == "grpc" {
		protocol, address = "grpc", strings.TrimPrefix(address, "unix://") // as shims of containerd have it
	}
	return print(&bootstrapapi.BootstrapResult{Version: 3, Address: address, Protocol: protocol})
}

func fakeServe(mode string) error {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	conns := &connListener{Listener: l}
	svc := &fakeTasks{mode: mode, conns: conns, exited: make(chan struct{})}
	if mode == "grpc" {
		return fakeServeGRPC(svc)
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	if mode == "bare" || mode == "old" {
		s.RegisterService("containerd.task.v2.Task", serviceOf(svc))
	} else {
		s.RegisterService("containerd.task.v3.Task", serviceOf(svc))
	}
	return s.Serve(context.Background(), conns)
}

// fakeServeGRPC serves the same methods by gRPC.
func fakeServeGRPC(svc *fakeTasks) error {
	d := grpc.ServiceDesc{ServiceName: "containerd.task.v3.Task", HandlerType: (*any)(nil)}
	for name, call := range serviceOf(svc).Methods {
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("containerd-namespace")) != 1 {
				return nil, rpcstatus.To(errdefs.FailedPrecondition("namespace is required"))
			}
			return call(ctx, decode)
		}})
	}
	s := grpc.NewServer()
	s.RegisterService(&d, svc)
	return s.Serve(svc.conns)
}

// connListener remembers connections so that they can be cut off.
type connListener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (l *connListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *connListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// serviceOf makes the ttrpc methods that the tests call.
func serviceOf(s *fakeTasks) *ttrpc.ServiceDesc {
	return &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Create":   method(s, s.create),
		"Start":    method(s, s.start),
		"State":    method(s, s.state),
		"Kill":     method(s, s.kill),
		"Wait":     method(s, s.wait),
		"Delete":   method(s, s.delete),
		"Shutdown": method(s, s.shutdown),
		"Connect":  method(s, s.connect),
	}}
}

func method[Req any, P interface {
	*Req
	proto.Message
}, Resp proto.Message](s *fakeTasks, fn func(context.Context, P) (Resp, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		req := P(new(Req))
		if err := unmarshal(req); err != nil {
			return nil, err
		}
		note(string(req.ProtoReflect().Descriptor().Name()))
		resp, err := fn(ctx, req)
		if err != nil {
			return nil, rpcstatus.To(err)
		}
		return resp, nil
	}
}

// fakeTasks is one task that ends when it is killed.
type fakeTasks struct {
	mode   string
	conns  *connListener
	once   sync.Once
	exited chan struct{}
}

// cutSignal makes the shim drop its connections, dieSignal makes it die.
const (
	cutSignal = 60
	dieSignal = 61
)

func (f *fakeTasks) create(_ context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	switch f.mode {
	case "create fails":
		return nil, errdefs.NotFound("OCI runtime create failed: no such thing: %s", r.GetID())
	case "create dies":
		os.Exit(1)
	case "create hangs":
		time.Sleep(time.Hour)
	case "create waits":
		time.Sleep(200 * time.Millisecond)
	case "create fails late":
		time.Sleep(200 * time.Millisecond)
		return nil, errdefs.Internal("no such thing")
	}
	return &taskapi.CreateTaskResponse{Pid: fakePID}, nil
}

func (f *fakeTasks) start(context.Context, *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	return &taskapi.StartResponse{Pid: fakePID}, nil
}

func (f *fakeTasks) state(_ context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	return &taskapi.StateResponse{ID: r.GetID(), Pid: fakePID, Status: tasktypes.Status_RUNNING}, nil
}

func (f *fakeTasks) kill(_ context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	switch r.GetSignal() {
	case cutSignal:
		f.conns.cut()
	case dieSignal:
		os.Exit(1)
	default:
		f.once.Do(func() { close(f.exited) })
	}
	return new(emptypb.Empty), nil
}

func (f *fakeTasks) wait(ctx context.Context, _ *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	select {
	case <-f.exited:
		return &taskapi.WaitResponse{ExitStatus: 9, ExitedAt: timestamppb.Now()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fakeTasks) delete(context.Context, *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	return &taskapi.DeleteResponse{Pid: fakePID, ExitStatus: 9, ExitedAt: timestamppb.Now()}, nil
}

func (f *fakeTasks) shutdown(context.Context, *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	time.AfterFunc(10*time.Millisecond, func() { os.Exit(0) })
	return new(emptypb.Empty), nil
}

func (f *fakeTasks) connect(context.Context, *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	if f.mode == "create hangs" {
		return nil, errdefs.NotFound("no task yet")
	}
	if f.mode == "forgets" {
		return &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid())}, nil
	}
	return &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: fakePID}, nil
}
