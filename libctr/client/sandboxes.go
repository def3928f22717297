package client

import (
	"context"
	"math"
	"time"

	sandboxapi "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/wire"
)

// Sandboxes returns the core's sandbox records.
func (c *Client) Sandboxes() sandbox.Store { return Sandboxes(c.conn) }

// Sandboxes is the same on a connection with this package's interceptors.
func Sandboxes(conn grpc.ClientConnInterface) sandbox.Store {
	return sandboxes{sandboxapi.NewStoreClient(conn)}
}

type sandboxes struct{ rpc sandboxapi.StoreClient }

func (s sandboxes) Get(ctx context.Context, id string) (sandbox.Sandbox, error) {
	r, err := s.rpc.Get(ctx, &sandboxapi.StoreGetRequest{SandboxID: id})
	return wire.FromSandbox(r.GetSandbox()), err
}

func (s sandboxes) List(ctx context.Context, filters ...string) ([]sandbox.Sandbox, error) {
	r, err := s.rpc.List(ctx, &sandboxapi.StoreListRequest{Filters: filters})
	if err != nil {
		return nil, err
	}
	out := make([]sandbox.Sandbox, len(r.GetList()))
	for i, sb := range r.GetList() {
		out[i] = wire.FromSandbox(sb)
	}
	return out, nil
}

func (s sandboxes) Create(ctx context.Context, sb sandbox.Sandbox) (sandbox.Sandbox, error) {
	r, err := s.rpc.Create(ctx, &sandboxapi.StoreCreateRequest{Sandbox: wire.Sandbox(sb)})
	return wire.FromSandbox(r.GetSandbox()), err
}

func (s sandboxes) Update(ctx context.Context, sb sandbox.Sandbox, fieldpaths ...string) (sandbox.Sandbox, error) {
	r, err := s.rpc.Update(ctx, &sandboxapi.StoreUpdateRequest{Sandbox: wire.Sandbox(sb), Fields: fieldpaths})
	return wire.FromSandbox(r.GetSandbox()), err
}

func (s sandboxes) Delete(ctx context.Context, id string) error {
	_, err := s.rpc.Delete(ctx, &sandboxapi.StoreDeleteRequest{SandboxID: id})
	return err
}

// SandboxController returns the core's controller of that name.
func (c *Client) SandboxController(name string) sandbox.Controller {
	return SandboxController(c.conn, name)
}

// SandboxController is the same on a connection with this package's interceptors.
func SandboxController(conn grpc.ClientConnInterface, name string) sandbox.Controller {
	return controller{sandboxapi.NewControllerClient(conn), name}
}

type controller struct {
	rpc  sandboxapi.ControllerClient
	name string
}

func (c controller) Create(ctx context.Context, s sandbox.Sandbox, o sandbox.CreateOptions) error {
	_, err := c.rpc.Create(ctx, &sandboxapi.ControllerCreateRequest{
		SandboxID:   s.ID,
		Rootfs:      wire.Mounts(o.Rootfs),
		Options:     wire.Any(o.Options),
		NetnsPath:   o.NetNSPath,
		Annotations: o.Annotations,
		Sandbox:     wire.Sandbox(s),
		Sandboxer:   c.name,
	})
	return err
}

func (c controller) Start(ctx context.Context, id string) (sandbox.Instance, error) {
	r, err := c.rpc.Start(ctx, &sandboxapi.ControllerStartRequest{SandboxID: id, Sandboxer: c.name})
	if err != nil {
		return sandbox.Instance{}, err
	}
	return sandbox.Instance{
		ID:        r.GetSandboxID(),
		PID:       r.GetPid(),
		CreatedAt: wire.Time(r.GetCreatedAt()),
		Address:   r.GetAddress(),
		Version:   r.GetVersion(),
		Labels:    r.GetLabels(),
		Spec:      wire.FromAny(r.GetSpec()),
	}, nil
}

func (c controller) Platform(ctx context.Context, id string) (ocispec.Platform, error) {
	r, err := c.rpc.Platform(ctx, &sandboxapi.ControllerPlatformRequest{SandboxID: id, Sandboxer: c.name})
	p := r.GetPlatform()
	return ocispec.Platform{OS: p.GetOS(), Architecture: p.GetArchitecture(), Variant: p.GetVariant(), OSVersion: p.GetOsVersion()}, err
}

func (c controller) Stop(ctx context.Context, id string, timeout time.Duration) error {
	secs := min((timeout+time.Second-1)/time.Second, math.MaxUint32) // the wire knows whole ones
	_, err := c.rpc.Stop(ctx, &sandboxapi.ControllerStopRequest{SandboxID: id, Sandboxer: c.name, TimeoutSecs: uint32(max(secs, 0))})
	return err
}

func (c controller) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	r, err := c.rpc.Wait(ctx, &sandboxapi.ControllerWaitRequest{SandboxID: id, Sandboxer: c.name})
	return sandbox.Exit{Code: r.GetExitStatus(), At: wire.Time(r.GetExitedAt())}, err
}

func (c controller) Status(ctx context.Context, id string, verbose bool) (sandbox.Status, error) {
	r, err := c.rpc.Status(ctx, &sandboxapi.ControllerStatusRequest{SandboxID: id, Sandboxer: c.name, Verbose: verbose})
	if err != nil {
		return sandbox.Status{}, err
	}
	st := sandbox.Status{
		ID:        r.GetSandboxID(),
		PID:       r.GetPid(),
		State:     r.GetState(),
		Info:      r.GetInfo(),
		CreatedAt: wire.Time(r.GetCreatedAt()),
		ExitedAt:  wire.Time(r.GetExitedAt()),
		Address:   r.GetAddress(),
		Version:   r.GetVersion(),
	}
	if r.GetExtra().GetTypeUrl() != "" {
		st.Extra = wire.FromAny(r.GetExtra())
	}
	return st, nil
}

func (c controller) Shutdown(ctx context.Context, id string) error {
	_, err := c.rpc.Shutdown(ctx, &sandboxapi.ControllerShutdownRequest{SandboxID: id, Sandboxer: c.name})
	return err
}

func (c controller) Metrics(ctx context.Context, id string) (*types.Metric, error) {
	r, err := c.rpc.Metrics(ctx, &sandboxapi.ControllerMetricsRequest{SandboxID: id, Sandboxer: c.name})
	if err != nil {
		return nil, err
	}
	return r.GetMetrics(), nil
}

func (c controller) Update(ctx context.Context, id string, s sandbox.Sandbox, fieldpaths ...string) error {
	_, err := c.rpc.Update(ctx, &sandboxapi.ControllerUpdateRequest{
		SandboxID: id, Sandboxer: c.name, Sandbox: wire.Sandbox(s), Fields: fieldpaths})
	return err
}
