package exec

import (
	"context"
	"errors"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/daemon/container"
)

const (
	listTime  = 2 * time.Second        // for a shim to tell its execs
	listAgain = time.Second            // before one is asked again that did not answer
	listWait  = 250 * time.Millisecond // for all of them, before requests are taken
)

// Restore takes up the execs that the daemon before has left in running containers:
// what they were asked for is known as far as their processes show it. One that was
// never started is taken away. Shims that are not ours tell nothing; their execs end
// unseen, and what is left of those that had streams goes then. It is called once, after that of the containers; shims that do not answer at
// once are heard later.
func (s *Service) Restore(ctx context.Context) {
	var all sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, t := range s.containers.Adopted() {
		if t.Kept {
			s.seeOffAll(t.ID)
			continue
		}
		all.Add(1)
		s.work.Go(func() { // ends with the answer, the container or the daemon
			defer all.Done()
			s.takeUp(t, slots)
		})
	}
	heard := make(chan struct{})
	go func() { defer close(heard); all.Wait() }()
	select {
	case <-heard:
	case <-time.After(listWait):
	case <-ctx.Done():
	}
}

// seeOffAll waits for the execs of a container whose keeper has streams of them.
func (s *Service) seeOffAll(container string) {
	if s.cfg.Keepers == nil {
		return
	}
	for _, id := range s.cfg.Keepers.Execs(container) {
		s.work.Go(func() { s.seeOff(&exec{id: id, container: container}) }) // ends with the process or the daemon
	}
}

// seeOff takes away what is left of an exec when it has ended, or now when it was never
// started.
func (s *Service) seeOff(x *exec) {
	if s.delete(x) != nil { // it runs
		if _, ok := s.await(s.life, x); !ok {
			return
		}
		if err := s.delete(x); err != nil {
			s.log.Warn("delete exec of an earlier daemon", "container", x.container, "exec", x.id, "err", err)
		}
	}
	s.endStreams(x)
}

// takeUp adopts the execs of one container once its shim tells them.
func (s *Service) takeUp(t container.Target, slots chan struct{}) {
	for s.life.Err() == nil {
		slots <- struct{}{}
		err := s.adopt(s.life, t)
		<-slots
		if err == nil || s.life.Err() != nil {
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			s.log.Warn("take up execs", "container", t.ID, "err", err)
			return
		}
		select {
		case <-time.After(listAgain):
		case <-s.life.Done():
		}
		if now, err := s.containers.Target(t.ID); err != nil || !now.StartedAt.Equal(t.StartedAt) {
			return
		}
	}
}

func (s *Service) adopt(ctx context.Context, t container.Target) error {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	list, err := s.cfg.List(ctx, t.Socket)
	if err != nil {
		return err
	}
	for _, e := range list {
		if _, err := s.find(e.ID); err == nil { // of this daemon
			continue
		}
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
