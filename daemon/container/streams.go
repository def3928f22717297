package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/api/undo"
	"gantry/daemon/keeper"
	"gantry/daemon/logger"
	"gantry/daemon/stream"
	"gantry/libctr/core/task"
)

// Keepers hold the streams of containers whose shim is not ours; see daemon/keeper.
type Keepers interface {
	Begin(ctx context.Context, id string, s keeper.Streams) (task.IO, error)
	Adopt(ctx context.Context, id string, s keeper.Streams) error
	CloseStdin(ctx context.Context, id, exec string) error
	End(ctx context.Context, id string) error
	Keeps(id string) bool
	Sweep(ctx context.Context, live func(id string) bool)
}

// socket is where the container's streams are served, by its shim or its keeper.
func (s *Service) socket(id string) string { return filepath.Join(s.cfg.IORoot, id+".sock") }

func (s *Service) foreign(c *Snapshot) bool {
	rt, _ := s.live.Load().find(c.Host.Runtime)
	return rt.Foreign
}

// kept says that a keeper holds the streams of the container as it runs.
func (s *Service) kept(id string) bool { return s.Keepers != nil && s.Keepers.Keeps(id) }

// openStreams names the ends of the init's streams. Those of a foreign shim are there
// when it returns.
func (s *Service) openStreams(ctx context.Context, c *Snapshot, steps *undo.Stack) (task.IO, error) {
	uri, err := s.logURI(c)
	if err == nil {
		err = s.makeLogDir(c)
	}
	if err != nil {
		return task.IO{}, err
	}
	if s.foreign(c) {
		io, err := s.Keepers.Begin(ctx, c.ID, keptStreams(c, uri))
		if err != nil {
			return io, err
		}
		steps.Add("end keeper", func(ctx context.Context) error { return s.endStreams(ctx, c.ID) })
		return io, nil
	}
	io := task.IO{Stdout: uri, Stderr: uri, Terminal: c.Config.Tty}
	if c.Config.OpenStdin {
		io.Stdin = uri
	}
	if c.Config.Tty {
		io.Stderr = ""
	}
	return io, nil
}

func keptStreams(c *Snapshot, uri string) keeper.Streams {
	return keeper.Streams{Output: uri, Stdin: c.Config.OpenStdin, Terminal: c.Config.Tty}
}

// makeLogDir makes the directory of a log that has one of its own. Whoever writes the log
// makes none: it may come to that when the container has been removed.
func (s *Service) makeLogDir(c *Snapshot) error {
	dir := filepath.Dir(c.LogPath)
	if c.LogPath == "" || dir == s.dir(c.ID) {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the log's directory: %w", err)
	}
	return nil
}

// logURI is where the init's output goes, and is served.
func (s *Service) logURI(c *Snapshot) (string, error) {
	set, err := logger.Parse(c.Host.LogConfig)
	if err != nil {
		return "", invalid(err)
	}
	return set.URI(c.LogPath, s.socket(c.ID), logAttrs(c)).String(), nil
}

// endStreams ends what a keeper holds, once the task has been deleted: by then the
// foreign shim has passed on all that was said.
func (s *Service) endStreams(ctx context.Context, id string) error {
	if s.Keepers == nil {
		return nil
	}
	return s.Keepers.End(ctx, id)
}

// adoptStreams sees to it that a running container's keeper is there.
func (s *Service) adoptStreams(ctx context.Context, c *Snapshot) {
	if !s.kept(c.ID) {
		return
	}
	uri, err := s.logURI(c)
	if err == nil {
		err = s.Keepers.Adopt(ctx, c.ID, keptStreams(c, uri))
	}
	if err != nil {
		s.log.WarnContext(ctx, "take up streams", "container", c.ID, "err", err)
	}
}

// dial opens a stream of the container's init for h. A keeper that has died is replaced.
func (s *Service) dial(ctx context.Context, e *entry, hello shimwire.Hello, h *heir) (stream.Process, error) {
	c := e.snapshot()
	p, err := s.Dial(ctx, s.socket(c.ID), hello)
	kept := s.kept(c.ID)
	if kept && (errdefs.IsNotFound(err) || errdefs.Class(err) == errdefs.ErrUnavailable) { // another has yet to open them
		s.adoptStreams(ctx, c)
		p, err = s.Dial(ctx, s.socket(c.ID), hello)
	}
	if err != nil {
		return nil, err
	}
	_, logged := logOf(c)
	t := e.connected(h, p, logged)
	if !kept {
		return t, nil
	}
	return stream.Fifo{Process: t, CloseShim: func() error {
		return ignoreNotFound(s.Tasks.CloseIO(context.WithoutCancel(ctx), c.ID, ""))
	}}, nil
}

// closeStdin ends the init's stdin without a stream of it.
func (s *Service) closeStdin(ctx context.Context, id string) error {
	if s.kept(id) {
		if err := s.Keepers.CloseStdin(ctx, id, ""); err != nil {
			return err
		}
	}
	return ignoreNotFound(s.Tasks.CloseIO(ctx, id, ""))
}
