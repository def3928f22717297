// Package sandbox runs sandboxes: each is a shim that serves the sandbox API, launched by
// the task manager, whose tasks join it when their container's record names the sandbox.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/wire"
	"gantry/libctr/identifier"
)

// Deadlines of calls to shims. What only looks must answer at once.
const (
	createTimeout   = 2 * time.Minute // Create and Start of shims that boot a machine
	statusTimeout   = 2 * time.Second
	callTimeout     = 10 * time.Second
	stopTimeout     = 30 * time.Second // besides the time that the caller gives the sandbox
	shutdownTimeout = 30 * time.Second
	endTimeout      = 5 * time.Second
)

// again is the pause before a wait is taken up on a new connection.
const again = 250 * time.Millisecond

// service is the API of shims that serve sandboxes.
const service = "containerd.runtime.sandbox.v1.Sandbox"

// killed is the exit of a sandbox whose shim has died: 128+KILL.
const killed = 128 + 9

// Controller is containerd's controller "shim". Safe for concurrent use.
type Controller struct {
	shims Shims
	log   *slog.Logger
}

var _ sandbox.Controller = (*Controller)(nil)

// New returns a controller of the sandboxes that have, or had before, a shim. log may be nil.
func New(shims Shims, log *slog.Logger) *Controller {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Controller{shims, log}
}

// Create launches the shim and has it create the sandbox. On failure nothing is left.
func (c *Controller) Create(ctx context.Context, s sandbox.Sandbox, o sandbox.CreateOptions) error {
	if err := identifier.Validate(s.ID); err != nil {
		return fmt.Errorf("sandbox id: %w", err)
	}
	shim, err := c.launch(ctx, s)
	if err != nil {
		return fmt.Errorf("failed to start new shim for sandbox %s: %w", s.ID, err)
	}
	failpoint.Hit("libctr/sandbox.create.launched")
	err = shim.Call(ctx, createTimeout, service, "CreateSandbox", &sandboxapi.CreateSandboxRequest{
		SandboxID:   s.ID,
		BundlePath:  shim.Bundle(),
		Rootfs:      wire.Mounts(o.Rootfs),
		Options:     wire.Any(o.Options),
		NetnsPath:   o.NetNSPath,
		Annotations: o.Annotations,
	}, &sandboxapi.CreateSandboxResponse{})
	if err == nil {
		failpoint.Hit("libctr/sandbox.create.created")
		return nil
	}
	c.abandon(ctx, s.ID, shim)
	if errdefs.IsNotImplemented(err) {
		return errdefs.NotImplemented("failed to create sandbox %s: the shim of runtime %q does not serve sandboxes: %w", s.ID, s.Runtime.Name, err)
	}
	return fmt.Errorf("failed to create sandbox %s: %w", s.ID, err)
}

// launch launches a shim, in the place of one that an earlier process has launched and
// that has no sandbox yet.
func (c *Controller) launch(ctx context.Context, s sandbox.Sandbox) (Shim, error) {
	shim, err := c.shims.Launch(ctx, s.ID, s.Runtime, s.Spec)
	if !errdefs.IsAlreadyExists(err) {
		return shim, err
	}
	old, ferr := c.shims.Find(ctx, s.ID)
	if ferr != nil {
		return nil, err // a task has the name
	}
	perr := old.Call(ctx, statusTimeout, service, "PingSandbox", &sandboxapi.PingRequest{SandboxID: s.ID}, &sandboxapi.PingResponse{})
	if !errdefs.IsNotFound(perr) {
		return nil, errdefs.AlreadyExists("sandbox %s already running", s.ID)
	}
	c.log.WarnContext(ctx, "shim has no sandbox, ending it", "sandbox", s.ID)
	c.abandon(ctx, s.ID, old)
	return c.shims.Launch(ctx, s.ID, s.Runtime, s.Spec)
}

// abandon ends the shim of a sandbox that could not be created or started, or that has
// none.
func (c *Controller) abandon(ctx context.Context, id string, shim Shim) {
	ctx = context.WithoutCancel(ctx)
	err := shim.Call(ctx, endTimeout, service, "ShutdownSandbox", &sandboxapi.ShutdownSandboxRequest{SandboxID: id}, &sandboxapi.ShutdownSandboxResponse{})
	if errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) {
		_, version := shim.Endpoint()
		err = shim.Call(ctx, endTimeout, fmt.Sprintf("containerd.task.v%d.Task", version), "Shutdown", &taskapi.ShutdownRequest{ID: id}, &emptypb.Empty{})
	}
	if err != nil && !passable(err) {
		c.log.WarnContext(ctx, "shut down a shim without a sandbox", "sandbox", id, "err", err)
	}
	if err := shim.End(ctx); err != nil {
		c.log.ErrorContext(ctx, "end a shim without a sandbox", "sandbox", id, "err", err)
	}
}

// Start starts what Create has made. One that can't be started is shut down, unless it
// has been started before.
func (c *Controller) Start(ctx context.Context, id string) (sandbox.Instance, error) {
	shim, err := c.shims.Find(ctx, id)
	if err != nil {
		return sandbox.Instance{}, errdefs.NotFound("unable to find sandbox %q", id)
	}
	var r sandboxapi.StartSandboxResponse
	if err := shim.Call(ctx, createTimeout, service, "StartSandbox", &sandboxapi.StartSandboxRequest{SandboxID: id}, &r); err != nil {
		if !errdefs.IsFailedPrecondition(err) && ctx.Err() == nil {
			c.abandon(ctx, id, shim)
		}
		return sandbox.Instance{}, fmt.Errorf("failed to start sandbox %s: %w", id, err)
	}
	address, version := shim.Endpoint()
	return sandbox.Instance{
		ID: id, PID: r.GetPid(), CreatedAt: wire.Time(r.GetCreatedAt()),
		Address: address, Version: version, Spec: wire.FromAny(r.GetSpec()),
	}, nil
}

// Platform asks the shim.
func (c *Controller) Platform(ctx context.Context, id string) (ocispec.Platform, error) {
	var r sandboxapi.PlatformResponse
	if err := c.call(ctx, id, callTimeout, "Platform", &sandboxapi.PlatformRequest{SandboxID: id}, &r); err != nil {
		return ocispec.Platform{}, fmt.Errorf("failed to get sandbox platform: %w", err)
	}
	p := r.GetPlatform()
	return ocispec.Platform{OS: p.GetOS(), Architecture: p.GetArchitecture(), Variant: p.GetVariant()}, nil
}

// call makes one call to a sandbox's shim.
func (c *Controller) call(ctx context.Context, id string, timeout time.Duration, method string, req, resp any) error {
	shim, err := c.shims.Find(ctx, id)
	if err != nil {
		return err
	}
	return shim.Call(ctx, timeout, service, method, req, resp)
}

// Stop has the shim end what runs in the sandbox; one that is gone is stopped.
func (c *Controller) Stop(ctx context.Context, id string, timeout time.Duration) error {
	secs := uint32((timeout + time.Second - 1) / time.Second)
	err := c.call(ctx, id, stopTimeout+timeout, "StopSandbox",
		&sandboxapi.StopSandboxRequest{SandboxID: id, TimeoutSecs: secs}, &sandboxapi.StopSandboxResponse{})
	if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, errdefs.ErrUnavailable) {
		return fmt.Errorf("failed to stop sandbox: %w", err)
	}
	return nil
}

// Wait waits, over lost connections too, until the sandbox has been stopped. When its
// shim dies that is the exit of a process that was killed.
func (c *Controller) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	shim, err := c.shims.Find(ctx, id)
	if err != nil {
		return sandbox.Exit{}, err
	}
	for {
		var r sandboxapi.WaitSandboxResponse
		err := shim.Call(ctx, 0, service, "WaitSandbox", &sandboxapi.WaitSandboxRequest{SandboxID: id}, &r)
		if err == nil {
			return sandbox.Exit{Code: r.GetExitStatus(), At: wire.Time(r.GetExitedAt())}, nil
		}
		select {
		case <-shim.Gone():
			return sandbox.Exit{Code: killed, At: time.Now().UTC()}, nil
		default:
		}
		if !errors.Is(err, errdefs.ErrUnavailable) {
			return sandbox.Exit{}, fmt.Errorf("failed to wait sandbox %s: %w", id, err)
		}
		select {
		case <-shim.Gone():
		case <-time.After(again):
		case <-ctx.Done():
			return sandbox.Exit{}, ctx.Err()
		}
	}
}

// Status asks the shim. A sandbox that is not there has ended now, as containerd has it.
func (c *Controller) Status(ctx context.Context, id string, verbose bool) (sandbox.Status, error) {
	none := sandbox.Status{ID: id, ExitedAt: time.Now().UTC()}
	shim, err := c.shims.Find(ctx, id)
	if errdefs.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return sandbox.Status{}, err
	}
	var r sandboxapi.SandboxStatusResponse
	err = shim.Call(ctx, statusTimeout, service, "SandboxStatus", &sandboxapi.SandboxStatusRequest{SandboxID: id, Verbose: verbose}, &r)
	if errdefs.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return sandbox.Status{}, fmt.Errorf("failed to query sandbox %s status: %w", id, err)
	}
	address, version := shim.Endpoint()
	return sandbox.Status{
		ID: r.GetSandboxID(), PID: r.GetPid(), State: r.GetState(), Info: r.GetInfo(),
		CreatedAt: wire.Time(r.GetCreatedAt()), ExitedAt: wire.Time(r.GetExitedAt()),
		Extra: wire.FromAny(r.GetExtra()), Address: address, Version: version,
	}, nil
}

// Shutdown ends the sandbox and its shim. A shim that does not answer is killed.
func (c *Controller) Shutdown(ctx context.Context, id string) error {
	shim, err := c.shims.Find(ctx, id)
	if err != nil {
		return err
	}
	err = shim.Call(ctx, shutdownTimeout, service, "ShutdownSandbox",
		&sandboxapi.ShutdownSandboxRequest{SandboxID: id}, &sandboxapi.ShutdownSandboxResponse{})
	if err != nil && !passable(err) || ctx.Err() != nil {
		return fmt.Errorf("failed to shutdown sandbox: %w", errors.Join(err, ctx.Err()))
	}
	failpoint.Hit("libctr/sandbox.shutdown.told")
	if err := shim.End(ctx); err != nil {
		return fmt.Errorf("failed to delete sandbox shim: %w", err)
	}
	return nil
}

// passable says of a shutdown's error that the shim is to be ended all the same: it has
// no sandbox, or says nothing.
func passable(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) ||
		errors.Is(err, errdefs.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// Metrics asks the shim.
func (c *Controller) Metrics(ctx context.Context, id string) (*types.Metric, error) {
	var r sandboxapi.SandboxMetricsResponse
	if err := c.call(ctx, id, callTimeout, "SandboxMetrics", &sandboxapi.SandboxMetricsRequest{SandboxID: id}, &r); err != nil {
		return nil, fmt.Errorf("failed to get metrics of sandbox %s: %w", id, err)
	}
	return r.GetMetrics(), nil
}

// Update tells the shim of a changed record.
func (c *Controller) Update(ctx context.Context, id string, s sandbox.Sandbox, fieldpaths ...string) error {
	err := c.call(ctx, id, callTimeout, "UpdateSandbox", &sandboxapi.UpdateSandboxRequest{
		SandboxID: id, Sandbox: wire.Sandbox(s), Fields: fieldpaths}, &sandboxapi.UpdateSandboxResponse{})
	if err != nil {
		return fmt.Errorf("failed to update sandbox %s: %w", id, err)
	}
	return nil
}

// Sweep ends the shims of the namespace of ctx that have no sandbox: an earlier process
// has died between launch and creation.
func (c *Controller) Sweep(ctx context.Context) {
	ids, err := c.shims.List(ctx)
	if err != nil {
		c.log.WarnContext(ctx, "find sandboxes", "err", err)
		return
	}
	for _, id := range ids {
		shim, err := c.shims.Find(ctx, id)
		if err != nil {
			continue
		}
		err = shim.Call(ctx, statusTimeout, service, "PingSandbox", &sandboxapi.PingRequest{SandboxID: id}, &sandboxapi.PingResponse{})
		if !errdefs.IsNotFound(err) {
			continue
		}
		c.log.WarnContext(ctx, "shim has no sandbox, ending it", "sandbox", id)
		c.abandon(ctx, id, shim)
	}
}
