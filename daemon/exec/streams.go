package exec

import (
	"context"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/api/undo"
	"gantry/daemon/keeper"
	"gantry/daemon/stream"
	"gantry/libctr/core/task"
)

// Keepers hold the streams of execs in containers whose shim is not ours; see
// daemon/keeper.
type Keepers interface {
	BeginExec(ctx context.Context, id, exec string, s keeper.Streams) (task.IO, error)
	CloseStdin(ctx context.Context, id, exec string) error
	EndExec(ctx context.Context, id, exec string) error
	Keeps(id string) bool
	Execs(id string) []string
}

// openStreams names the streams: those wanted by an attached client, none when detached.
// Those of a foreign shim are there when it returns.
func (r *start) openStreams(ctx context.Context, steps *undo.Stack) (task.IO, error) {
	x := r.x
	if !r.attached() && !x.opts.Tty {
		return task.IO{}, nil
	}
	uri := shimwire.StreamURI{Socket: r.t.Socket}.String()
	stdin := x.opts.AttachStdin && r.attached()
	if r.t.Kept {
		io, err := r.s.cfg.Keepers.BeginExec(ctx, x.container, x.id, keeper.Streams{Output: uri, Stdin: stdin, Terminal: x.opts.Tty})
		if err != nil {
			return io, err
		}
		steps.Add("end streams", func(ctx context.Context) error { return r.s.cfg.Keepers.EndExec(ctx, x.container, x.id) })
		return io, nil
	}
	io := task.IO{Stdout: uri, Terminal: x.opts.Tty}
	if !x.opts.Tty {
		io.Stderr = uri
	}
	if stdin {
		io.Stdin = uri
	}
	return io, nil
}

func (r *start) dial(ctx context.Context) (err error) {
	o := r.x.opts
	r.p, err = r.s.cfg.Dial(ctx, r.t.Socket, shimwire.Hello{
		Proc: r.x.id, Stdin: o.AttachStdin, Stdout: o.AttachStdout, Stderr: o.AttachStderr && !o.Tty,
	})
	if err != nil {
		return err
	}
	tail := stream.NewTail(r.p, false)
	r.x.connected(tail)
	r.p = tail
	if r.t.Kept {
		r.p = stream.Fifo{Process: r.p, CloseShim: func() error { return r.closeShim(ctx) }}
	}
	return nil
}

// closeStdin ends the process's stdin without a stream of it.
func (r *start) closeStdin(ctx context.Context) error {
	if r.t.Kept {
		if err := r.s.cfg.Keepers.CloseStdin(ctx, r.x.container, r.x.id); err != nil {
			return err
		}
	}
	return r.closeShim(ctx)
}

func (r *start) closeShim(ctx context.Context) error {
	if err := r.s.tasks.CloseIO(context.WithoutCancel(ctx), r.x.container, r.x.id); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// endStreams ends what a keeper holds of an exec that has been deleted.
func (s *Service) endStreams(x *exec) {
	if s.cfg.Keepers == nil || !s.cfg.Keepers.Keeps(x.container) {
		return
	}
	ctx, cancel := context.WithTimeout(s.life, undoTime)
	defer cancel()
	if err := s.cfg.Keepers.EndExec(ctx, x.container, x.id); err != nil {
		s.log.WarnContext(ctx, "end streams of exec", "container", x.container, "exec", x.id, "err", err)
	}
}
