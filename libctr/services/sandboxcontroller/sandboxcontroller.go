// Package sandboxcontroller serves containerd.services.sandbox.v1.Controller on the
// sandbox controllers that there are, by name.
package sandboxcontroller

import (
	"context"
	"log/slog"
	"time"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/event"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/wire"
	"gantry/libctr/services/notify"
)

// Service adapts controllers. Events: /sandboxes/create, start, and exit to each who has
// waited for it, as containerd does.
type Service struct {
	api.UnimplementedControllerServer
	controllers map[string]sandbox.Controller
	notify      notify.Publisher
}

// New returns the service on controllers by name; events and log may be nil.
func New(controllers map[string]sandbox.Controller, events event.Publisher, log *slog.Logger) *Service {
	return &Service{controllers: controllers, notify: notify.Publisher{Events: events, Log: log}}
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { api.RegisterControllerServer(r, s) }

func (s *Service) controller(name string) (sandbox.Controller, error) {
	if name == "" {
		return nil, rpcstatus.To(errdefs.InvalidArgument("sandbox controller name can not be empty"))
	}
	if c, ok := s.controllers[name]; ok {
		return c, nil
	}
	return nil, rpcstatus.To(errdefs.NotFound("failed to get sandbox controller by %s", name))
}

func (s *Service) Create(ctx context.Context, r *api.ControllerCreateRequest) (*api.ControllerCreateResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	sb := sandbox.Sandbox{ID: r.GetSandboxID()}
	if r.GetSandbox() != nil {
		sb = wire.FromSandbox(r.GetSandbox())
	}
	err = c.Create(ctx, sb, sandbox.CreateOptions{
		Rootfs:      wire.FromMounts(r.GetRootfs()),
		Options:     wire.FromAny(r.GetOptions()),
		NetNSPath:   r.GetNetnsPath(),
		Annotations: r.GetAnnotations(),
	})
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/sandboxes/create", &containerdevents.SandboxCreate{SandboxID: sb.ID})
	return &api.ControllerCreateResponse{SandboxID: sb.ID}, nil
}

func (s *Service) Start(ctx context.Context, r *api.ControllerStartRequest) (*api.ControllerStartResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	i, err := c.Start(ctx, r.GetSandboxID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/sandboxes/start", &containerdevents.SandboxStart{SandboxID: r.GetSandboxID()})
	return &api.ControllerStartResponse{
		SandboxID: i.ID,
		Pid:       i.PID,
		CreatedAt: wire.Timestamp(i.CreatedAt),
		Labels:    i.Labels,
		Address:   i.Address,
		Version:   i.Version,
		Spec:      wire.Any(i.Spec),
	}, nil
}

func (s *Service) Platform(ctx context.Context, r *api.ControllerPlatformRequest) (*api.ControllerPlatformResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	p, err := c.Platform(ctx, r.GetSandboxID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ControllerPlatformResponse{Platform: &types.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}}, nil
}

func (s *Service) Stop(ctx context.Context, r *api.ControllerStopRequest) (*api.ControllerStopResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(r.GetTimeoutSecs()) * time.Second
	if err := c.Stop(ctx, r.GetSandboxID(), timeout); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ControllerStopResponse{}, nil
}

func (s *Service) Wait(ctx context.Context, r *api.ControllerWaitRequest) (*api.ControllerWaitResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	e, err := c.Wait(ctx, r.GetSandboxID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	s.notify.Publish(ctx, "/sandboxes/exit", &containerdevents.SandboxExit{
		SandboxID: r.GetSandboxID(), ExitStatus: e.Code, ExitedAt: wire.Timestamp(e.At)})
	return &api.ControllerWaitResponse{ExitStatus: e.Code, ExitedAt: wire.Timestamp(e.At)}, nil
}

func (s *Service) Status(ctx context.Context, r *api.ControllerStatusRequest) (*api.ControllerStatusResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	st, err := c.Status(ctx, r.GetSandboxID(), r.GetVerbose())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	extra := wire.Any(st.Extra)
	if extra == nil {
		extra = &anypb.Any{} // as containerd answers
	}
	return &api.ControllerStatusResponse{
		SandboxID: st.ID,
		Pid:       st.PID,
		State:     st.State,
		Info:      st.Info,
		CreatedAt: wire.Timestamp(st.CreatedAt),
		ExitedAt:  wire.Timestamp(st.ExitedAt),
		Extra:     extra,
		Address:   st.Address,
		Version:   st.Version,
	}, nil
}

func (s *Service) Shutdown(ctx context.Context, r *api.ControllerShutdownRequest) (*api.ControllerShutdownResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	if err := c.Shutdown(ctx, r.GetSandboxID()); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ControllerShutdownResponse{}, nil
}

func (s *Service) Metrics(ctx context.Context, r *api.ControllerMetricsRequest) (*api.ControllerMetricsResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	m, err := c.Metrics(ctx, r.GetSandboxID())
	if err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ControllerMetricsResponse{Metrics: m}, nil
}

func (s *Service) Update(ctx context.Context, r *api.ControllerUpdateRequest) (*api.ControllerUpdateResponse, error) {
	c, err := s.controller(r.GetSandboxer())
	if err != nil {
		return nil, err
	}
	if r.GetSandbox() == nil {
		return nil, rpcstatus.To(errdefs.InvalidArgument("sandbox can not be nil"))
	}
	if err := c.Update(ctx, r.GetSandboxID(), wire.FromSandbox(r.GetSandbox()), r.GetFields()...); err != nil {
		return nil, rpcstatus.To(err)
	}
	return &api.ControllerUpdateResponse{}, nil
}
