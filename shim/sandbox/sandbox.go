// Package sandbox is the shim's sandbox API: containerd.runtime.sandbox.v1.Sandbox over
// ttrpc. A sandbox is the shim itself, kept while it has no container. It needs no
// process of its own; with a root file system it gets one, a container of the sandbox's
// own id that the bundle's config.json describes.
//
// A shim has one sandbox at most: none, created, ready, stopped, none. What has been
// stopped answers until it is shut down.
package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
	"gantry/shim/service"
)

// States as Kubernetes calls them.
const (
	ready    = "SANDBOX_READY"
	notReady = "SANDBOX_NOTREADY"
)

// stopTimeout bounds a stop that names no time, endTimeout a shutdown.
const (
	stopTimeout = 10 * time.Second
	endTimeout  = 20 * time.Second
)

// Containers are those of the shim. All but IDs and Hold may block.
type Containers interface {
	Hold()
	IDs() []string
	Counters(id string) (*cgroup.Stats, error)
	KillAll(ctx context.Context) error
	End(ctx context.Context) error

	Create(context.Context, *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error)
	Start(context.Context, *taskapi.StartRequest) (*taskapi.StartResponse, error)
	Wait(context.Context, *taskapi.WaitRequest) (*taskapi.WaitResponse, error)
}

// Service is the sandbox API. Safe for concurrent use.
type Service struct {
	containers Containers

	mu sync.Mutex
	sb *state // guarded by mu; nil for no sandbox
}

// state is the one sandbox. What is not guarded is set when it is made.
type state struct {
	id      string
	bundle  string
	netns   string
	process bool // it has one of its own

	started time.Time     // guarded by Service.mu; zero before the start
	pid     uint32        // guarded by Service.mu
	over    chan struct{} // closed when it has been stopped, or its process has ended
	exit    exit          // set before over is closed
	end     sync.Once
}

type exit struct {
	status uint32
	at     time.Time
}

func (s *state) ended(status uint32, at time.Time) {
	s.end.Do(func() {
		s.exit = exit{status, at}
		close(s.over)
	})
}

func (s *state) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// New returns the service of a shim without a sandbox.
func New(c Containers) *Service { return &Service{containers: c} }

// Register serves the API.
func (s *Service) Register(srv *ttrpc.Server) {
	var api sandboxapi.TTRPCSandboxService = s
	srv.RegisterService("containerd.runtime.sandbox.v1.Sandbox", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"CreateSandbox":   service.Method(api.CreateSandbox),
		"StartSandbox":    service.Method(api.StartSandbox),
		"Platform":        service.Method(api.Platform),
		"StopSandbox":     service.Method(api.StopSandbox),
		"WaitSandbox":     service.Method(api.WaitSandbox),
		"SandboxStatus":   service.Method(api.SandboxStatus),
		"PingSandbox":     service.Method(api.PingSandbox),
		"ShutdownSandbox": service.Method(api.ShutdownSandbox),
		"SandboxMetrics":  service.Method(api.SandboxMetrics),
		"UpdateSandbox":   service.Method(api.UpdateSandbox),
	}})
}

func (s *Service) get(id string) (*state, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sb == nil || s.sb.id != id {
		return nil, errdefs.NotFound("sandbox %q not found", id)
	}
	return s.sb, nil
}

// CreateSandbox implements the API. Its options and annotations are for shims that have
// a use for them.
func (s *Service) CreateSandbox(ctx context.Context, r *sandboxapi.CreateSandboxRequest) (_ *sandboxapi.CreateSandboxResponse, err error) {
	if r.SandboxID == "" {
		return nil, errdefs.InvalidArgument("sandbox id must be set")
	}
	sb := &state{
		id: r.SandboxID, bundle: r.BundlePath, netns: r.NetnsPath, process: len(r.Rootfs) > 0, over: make(chan struct{}),
	}
	s.mu.Lock()
	if s.sb != nil {
		s.mu.Unlock()
		return nil, errdefs.AlreadyExists("sandbox %q: this shim has the sandbox %q", r.SandboxID, s.sb.id)
	}
	s.sb = sb
	s.mu.Unlock()
	if sb.process {
		if _, err := s.containers.Create(ctx, &taskapi.CreateTaskRequest{ID: sb.id, Bundle: sb.bundle, Rootfs: r.Rootfs}); err != nil {
			s.mu.Lock()
			s.sb = nil
			s.mu.Unlock()
			return nil, err
		}
		go s.watch(sb) // ends with the process
	}
	s.containers.Hold()
	return &sandboxapi.CreateSandboxResponse{}, nil
}

// watch notes the end of a sandbox's own process.
func (s *Service) watch(sb *state) {
	r, err := s.containers.Wait(context.Background(), &taskapi.WaitRequest{ID: sb.id})
	if err != nil { // it has been deleted
		sb.ended(0, time.Now())
		return
	}
	sb.ended(r.ExitStatus, r.ExitedAt.AsTime())
}

// StartSandbox implements the API. The pid is the shim's own where the sandbox has no
// process.
func (s *Service) StartSandbox(ctx context.Context, r *sandboxapi.StartSandboxRequest) (*sandboxapi.StartSandboxResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	pid := uint32(os.Getpid())
	if err := s.claimStart(sb, pid); err != nil {
		return nil, err
	}
	if sb.process {
		started, err := s.containers.Start(ctx, &taskapi.StartRequest{ID: sb.id})
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			sb.started = time.Time{}
			return nil, err
		}
		pid = started.Pid
		sb.pid = pid
	}
	return &sandboxapi.StartSandboxResponse{Pid: pid, CreatedAt: timestamppb.New(sb.started)}, nil
}

func (s *Service) claimStart(sb *state, pid uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case sb.isOver():
		return errdefs.FailedPrecondition("sandbox %q has been stopped", sb.id)
	case !sb.started.IsZero():
		return errdefs.FailedPrecondition("sandbox %q has been started", sb.id)
	}
	sb.started, sb.pid = time.Now(), pid
	return nil
}

// Platform implements the API.
func (s *Service) Platform(_ context.Context, r *sandboxapi.PlatformRequest) (*sandboxapi.PlatformResponse, error) {
	if _, err := s.get(r.SandboxID); err != nil {
		return nil, err
	}
	return &sandboxapi.PlatformResponse{Platform: &types.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}}, nil
}

// StopSandbox implements the API: what runs in the sandbox is killed. Its containers stay
// until they are deleted.
func (s *Service) StopSandbox(ctx context.Context, r *sandboxapi.StopSandboxRequest) (*sandboxapi.StopSandboxResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	timeout := stopTimeout
	if r.TimeoutSecs > 0 {
		timeout = time.Duration(r.TimeoutSecs) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.containers.KillAll(ctx); err != nil {
		return nil, err
	}
	if !sb.process { // else its process tells
		sb.ended(0, time.Now())
	}
	return &sandboxapi.StopSandboxResponse{}, nil
}

// WaitSandbox implements the API.
func (s *Service) WaitSandbox(ctx context.Context, r *sandboxapi.WaitSandboxRequest) (*sandboxapi.WaitSandboxResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	select {
	case <-sb.over:
		return &sandboxapi.WaitSandboxResponse{ExitStatus: sb.exit.status, ExitedAt: timestamppb.New(sb.exit.at)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SandboxStatus implements the API.
func (s *Service) SandboxStatus(_ context.Context, r *sandboxapi.SandboxStatusRequest) (*sandboxapi.SandboxStatusResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	started, pid := sb.started, sb.pid
	s.mu.Unlock()
	a := &sandboxapi.SandboxStatusResponse{SandboxID: sb.id, Pid: pid, State: notReady}
	if !started.IsZero() {
		a.CreatedAt = timestamppb.New(started)
	}
	switch {
	case sb.isOver():
		a.ExitedAt = timestamppb.New(sb.exit.at)
	case !started.IsZero():
		a.State = ready
	}
	if r.Verbose {
		a.Info = s.details(sb)
	}
	return a, nil
}

// details are what a curious user may want to know, as JSON.
func (s *Service) details(sb *state) map[string]string {
	ids := s.containers.IDs()
	if ids == nil {
		ids = []string{}
	}
	list, _ := json.Marshal(ids) // strings always marshal
	return map[string]string{"bundle": sb.bundle, "netns": sb.netns, "containers": string(list)}
}

// PingSandbox implements the API.
func (s *Service) PingSandbox(_ context.Context, r *sandboxapi.PingRequest) (*sandboxapi.PingResponse, error) {
	_, err := s.get(r.SandboxID)
	return &sandboxapi.PingResponse{}, err
}

// ShutdownSandbox implements the API: containers are killed and deleted, and the shim
// ends. The answer goes out first.
func (s *Service) ShutdownSandbox(ctx context.Context, r *sandboxapi.ShutdownSandboxRequest) (*sandboxapi.ShutdownSandboxResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if err := s.containers.End(ctx); err != nil {
		return nil, err
	}
	sb.ended(0, time.Now())
	return &sandboxapi.ShutdownSandboxResponse{}, nil
}

// UpdateSandbox implements the API. Labels and extensions mean nothing to the shim, and a
// sandbox has no resources of its own that could be changed.
func (s *Service) UpdateSandbox(_ context.Context, r *sandboxapi.UpdateSandboxRequest) (*sandboxapi.UpdateSandboxResponse, error) {
	sb, err := s.get(r.SandboxID)
	if err != nil {
		return nil, err
	}
	if len(r.Fields) == 0 {
		return nil, errdefs.NotImplemented("sandbox %q: only labels and extensions can be updated", sb.id)
	}
	for _, f := range r.Fields {
		name, _, _ := strings.Cut(f, ".")
		if name != "labels" && name != "extensions" {
			return nil, errdefs.NotImplemented("sandbox %q: %s cannot be updated", sb.id, f)
		}
	}
	return &sandboxapi.UpdateSandboxResponse{}, nil
}
