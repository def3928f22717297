package exec

import (
	"context"
	"strings"
	"time"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"gantry/api/errdefs"
	"gantry/daemon/container"
	"gantry/daemon/stream"
)

// Create notes an exec of a running container; Start runs it.
func (s *Service) Create(ctx context.Context, ref string, o containertypes.ExecOptions) (string, error) {
	if len(o.Cmd) == 0 {
		return "", errdefs.InvalidArgument("No exec command specified")
	}
	t, err := s.containers.Target(ref)
	if err != nil {
		return "", err
	}
	if o.User != "" {
		if _, _, err := s.containers.LookupUser(ctx, t.Snapshot, o.User); err != nil {
			return "", err
		}
	}
	keys, err := stream.ParseKeys(o.DetachKeys)
	if err != nil {
		return "", errdefs.Internal("Invalid escape keys (%s) provided", o.DetachKeys) // dockerd's class
	}
	x := newExec(t.ID, o, keys)
	if !s.addNew(x) {
		return "", errdefs.ResourceExhausted("there are %d execs that run or wait for their start", mostAlive)
	}
	s.publish(x, events.ActionExecCreate)
	return x.id, nil
}

// publish sends an event whose name holds the command, as Docker has it.
func (s *Service) publish(x *exec, action events.Action) {
	named := string(action) + ": " + x.opts.Cmd[0] + " " + strings.Join(x.opts.Cmd[1:], " ")
	s.containers.Publish(x.container, events.Action(named), map[string]string{"execID": x.id})
}

// Ready says whether an exec could be started: it is there, and its container runs.
func (s *Service) Ready(_ context.Context, id string) error {
	_, _, err := s.ready(id)
	return err
}

func (s *Service) ready(id string) (*exec, container.Target, error) {
	x, err := s.find(id)
	if err != nil {
		return nil, container.Target{}, err
	}
	t, err := s.containers.Target(x.container)
	return x, t, err
}

// Inspect tells an exec's state.
func (s *Service) Inspect(_ context.Context, id string) (*backend.ExecInspect, error) {
	x, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return x.inspect(), nil
}

// startWait bounds how long a resize waits for the process.
const startWait = 10 * time.Second

// Resize sets the size of an exec's terminal, once it runs.
func (s *Service) Resize(ctx context.Context, id string, height, width uint32) error {
	x, _, err := s.ready(id)
	if err != nil {
		return err
	}
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-x.started:
	case <-timer.C:
		return errdefs.Internal("timeout waiting for exec session ready")
	case <-ctx.Done():
		return ctx.Err()
	}
	if x.inspect().Pid == 0 {
		return errdefs.InvalidArgument("exec process is not started")
	}
	return s.tasks.ResizePty(context.WithoutCancel(ctx), x.container, x.id, width, height)
}
