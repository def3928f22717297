package sandbox

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/libctr/core/container"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/task"
)

// Shims launches the shims of sandboxes and finds them again, in the namespace of ctx.
type Shims interface {
	// Launch fails with AlreadyExists when a sandbox or a task has the name.
	Launch(ctx context.Context, id string, r sandbox.Runtime, spec typeurl.Any) (Shim, error)
	Find(ctx context.Context, id string) (Shim, error)
	List(ctx context.Context) ([]string, error)
}

// Shim is a process that serves the sandbox API; see task.Sandbox.
type Shim interface {
	Bundle() string
	Endpoint() (address string, version uint32)
	Call(ctx context.Context, timeout time.Duration, service, method string, req, resp any) error
	Gone() <-chan struct{}
	End(ctx context.Context) error
}

// Of are the shims of a task manager.
func Of(m *task.Manager) Shims { return shims{m} }

type shims struct{ m *task.Manager }

// noSpec is for shims that look for their group in a config.json.
var noSpec = &anypb.Any{Value: []byte("{}")}

func (s shims) Launch(ctx context.Context, id string, r sandbox.Runtime, spec typeurl.Any) (Shim, error) {
	if spec == nil || len(spec.GetValue()) == 0 {
		spec = noSpec
	}
	sb, err := s.m.LaunchSandbox(ctx, task.SandboxOptions{
		ID: id, Runtime: container.Runtime{Name: r.Name, Options: r.Options}, Spec: spec})
	if err != nil {
		return nil, err
	}
	return sb, nil
}

func (s shims) Find(ctx context.Context, id string) (Shim, error) {
	sb, err := s.m.Sandbox(ctx, id)
	if err != nil {
		return nil, err
	}
	return sb, nil
}

func (s shims) List(ctx context.Context) ([]string, error) { return s.m.Sandboxes(ctx) }
