package exec

import (
	"context"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/container"
)

// listTime bounds how long a shim may take to tell its execs.
const listTime = 2 * time.Second

// Restore takes up the execs that the daemon before has left in running containers:
// what they were asked for is known as far as their processes show it. One that was
// never started is taken away. Shims that are not ours tell nothing; their execs end
// unseen. It is called once, after that of the containers.
func (s *Service) Restore(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(32)
	for _, t := range s.containers.Adopted() {
		if t.Kept {
			continue
		}
		g.Go(func() error {
			if err := s.adopt(ctx, t); err != nil {
				s.log.WarnContext(ctx, "take up execs", "container", t.ID, "err", err)
			}
			return nil
		})
	}
	g.Wait() //nolint:errcheck // they report for themselves
}

func (s *Service) adopt(ctx context.Context, t container.Target) error {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	list, err := s.cfg.List(ctx, t.Socket)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.Started {
			if _, err := s.tasks.Delete(ctx, t.ID, e.ID); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
			continue
		}
		x := adopted(t.ID, e)
		s.add(x)
		s.work.Go(func() { s.watch(x) }) // ends with the process or the daemon
	}
	return nil
}

// adopted is the record of an exec that runs, or has ended and nobody has heard of it.
func adopted(container string, e shimwire.Exec) *exec {
	x := newExec(container, containertypes.ExecOptions{
		Cmd: e.Args, Tty: e.Terminal, WorkingDir: e.Cwd,
		AttachStdin: e.Stdin, AttachStdout: e.Stdout, AttachStderr: e.Stderr,
	}, nil)
	x.id, x.state = e.ID, running
	x.setPid(e.Pid)
	return x
}
