package exec

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/shimwire"
	"gantry/api/undo"
	"gantry/daemon/container"
	"gantry/daemon/spec"
	"gantry/daemon/stream"
	"gantry/libctr/core/task"
)

// undoTime bounds the taking back of a start that failed.
const undoTime = 30 * time.Second

// Start runs an exec. Detached it returns once the process runs; else it joins the
// client with it and returns when the streams have ended, after the exit has been
// committed. What can be wrong with the command is told before the stream is opened.
func (s *Service) Start(ctx context.Context, id string, o apicontainer.ExecStartOptions) error {
	x, t, err := s.ready(id)
	if err != nil {
		return err
	}
	if err := x.take(); err != nil {
		return err
	}
	s.publish(x, events.ActionExecStart)
	r := &start{s: s, x: x, t: t, o: o}
	if err := r.prepare(context.WithoutCancel(ctx)); err != nil {
		code, err := container.ExecError(err)
		x.finish(code)
		s.finished(x)
		return err
	}
	if r.p == nil {
		return nil
	}
	return r.join(ctx)
}

// start is one Start at work.
type start struct {
	s *Service
	x *exec
	t container.Target
	o apicontainer.ExecStartOptions
	p stream.Process // nil when detached
}

// prepare makes the process, connects to its streams and lets it go.
func (r *start) prepare(ctx context.Context) (err error) {
	var steps undo.Stack
	defer func() { steps.OnError(ctx, undoTime, &err) }()
	process, err := r.spec(ctx)
	if err != nil {
		return err
	}
	raw, err := spec.Any(process)
	if err != nil {
		return err
	}
	x := r.x
	io, err := r.openStreams(ctx, &steps)
	if err != nil {
		return err
	}
	if err := r.s.tasks.Exec(ctx, task.ExecOptions{ContainerID: x.container, ExecID: x.id, IO: io, Spec: raw}); err != nil {
		return err
	}
	failpoint.Hit("daemon/exec.start.added")
	steps.Add("delete exec", func(ctx context.Context) error {
		_, err := r.s.tasks.Delete(ctx, x.container, x.id)
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
	if r.attached() {
		if err := r.dial(ctx); err != nil {
			return err
		}
		steps.Add("close stream", func(context.Context) error { r.p.Close(); return nil })
	}
	failpoint.Hit("daemon/exec.start.connected")
	return r.letGo(ctx)
}

// letGo starts the process, for whose end somebody waits already: it may be over, and its
// container with it, before the core could be asked.
func (r *start) letGo(ctx context.Context) error {
	waiting, forget := context.WithCancel(r.s.life)
	began := make(chan struct{})
	r.s.work.Go(func() { // ends with the process or the daemon
		defer forget()
		exit, ok := r.s.await(waiting, r.x)
		select {
		case <-began:
		case <-waiting.Done():
			return
		}
		if ok {
			r.s.commit(r.x, exit)
		}
	})
	pid, err := r.s.tasks.Start(ctx, r.x.container, r.x.id)
	if err != nil {
		forget()
		return err
	}
	failpoint.Hit("daemon/exec.start.started")
	r.x.setPid(int(pid))
	close(began)
	return nil
}

func (r *start) attached() bool { return !r.o.Detach && r.o.Open != nil }

func (r *start) spec(ctx context.Context) (*specs.Process, error) {
	o := r.x.opts
	if r.o.ConsoleSize != nil {
		o.ConsoleSize = r.o.ConsoleSize
	}
	return r.s.Process(ctx, r.t, o)
}

// Process is what o asks for in a container, by the container's own settings where it
// asks for nothing.
func (s *Service) Process(ctx context.Context, t container.Target, o containertypes.ExecOptions) (_ *specs.Process, err error) {
	user := o.User
	if user == "" {
		user = t.Config.User
	}
	in := spec.ExecInput{
		Config: t.Config, HostConfig: t.Host, Ulimits: s.cfg.Ulimits, Host: s.cfg.Host, LinkEnv: t.LinkEnv,
		Args: o.Cmd, Env: o.Env, Cwd: o.WorkingDir, Tty: o.Tty, Size: o.ConsoleSize, Privileged: o.Privileged,
	}
	if in.User, in.Home, err = s.containers.LookupUser(ctx, t.Snapshot, user); err != nil {
		return nil, err
	}
	if in.Security, err = spec.ParseSecurity(t.Host.SecurityOpt, s.cfg.NoNewPrivileges); err != nil {
		return nil, err
	}
	return spec.Exec(in), nil
}

// join carries the client's bytes until the process's output ends or the client leaves,
// in which case the process goes on.
func (r *start) join(ctx context.Context) error {
	x := r.x
	client, err := r.o.Open(!r.o.Tty) // by what the start says, as with dockerd
	if err != nil {
		r.p.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(r.s.life, cancel)()
	defer cancel()
	result := stream.Copy(ctx, committed{r.p, x}, client, stream.Options{
		Stdin: x.opts.AttachStdin, Stdout: x.opts.AttachStdout, Stderr: x.opts.AttachStderr && !r.o.Tty,
		TTY: x.opts.Tty, Keys: x.keys, CloseStdin: true,
	})
	if result.StdinOpen {
		if err := r.closeStdin(context.WithoutCancel(ctx)); err != nil {
			r.s.log.WarnContext(ctx, "close stdin", "exec", x.id, "err", err)
		}
	}
	if result.How == stream.Detached {
		r.s.containers.Publish(x.container, events.ActionExecDetach, map[string]string{"execID": x.id})
	}
	return nil
}

// commitWait bounds how long the end of the output waits for the exit: a process may
// have closed its output and live on.
const commitWait = time.Second

// committed holds the end of the output back until the exit is known, since the client
// asks for the exit code next.
type committed struct {
	stream.Process
	x *exec
}

func (c committed) Read() (shimwire.Frame, error) {
	f, err := c.Process.Read()
	if err == nil && f.Kind == shimwire.End {
		timer := time.NewTimer(commitWait)
		defer timer.Stop()
		select {
		case <-c.x.done:
		case <-timer.C:
		}
	}
	return f, err
}

// exitLost is the code of a process whose end nobody saw.
const exitLost = 255

// watch waits for the process's end and commits it.
func (s *Service) watch(x *exec) {
	if exit, ok := s.await(s.life, x); ok {
		s.commit(x, exit)
	}
}

func (s *Service) commit(x *exec, exit task.Exit) {
	failpoint.Hit("daemon/exec.exit.awaited")
	s.containers.Publish(x.container, events.ActionExecDie, map[string]string{
		"execID": x.id, "exitCode": strconv.Itoa(int(exit.Code)),
	})
	x.release()
	x.finish(int(exit.Code)) // the client waits for this, not for what is tidied up after it
	s.finished(x)
	failpoint.Hit("daemon/exec.exit.told")
	if err := s.delete(x); err != nil {
		s.log.Warn("delete exec", "container", x.container, "exec", x.id, "err", err)
	}
	failpoint.Hit("daemon/exec.exit.deleted")
	s.endStreams(x)
}

// delete takes away what the core has of an exec that does not run.
func (s *Service) delete(x *exec) error {
	ctx, cancel := context.WithTimeout(s.life, undoTime)
	defer cancel()
	if _, err := s.tasks.Delete(ctx, x.container, x.id); !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// await asks the core for the exit until it has an answer; false when ctx ends, or the daemon.
func (s *Service) await(ctx context.Context, x *exec) (task.Exit, bool) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		exit, err := s.tasks.Wait(ctx, x.container, x.id)
		switch {
		case err == nil:
			return exit, true
		case ctx.Err() != nil:
			return task.Exit{}, false
		case errdefs.IsNotFound(err):
			return task.Exit{Code: exitLost, At: time.Now()}, true
		}
		level := slog.LevelWarn
		if errors.Is(err, errdefs.ErrUnavailable) { // told once, not for each
			level = slog.LevelDebug
		}
		s.log.Log(ctx, level, "wait for exec", "container", x.container, "exec", x.id, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return task.Exit{}, false
		}
	}
}
