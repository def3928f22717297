package container

import (
	"context"
	"strconv"
	"time"

	timetypes "github.com/docker/docker/api/types/time"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/daemon/logger"
)

// Logs writes what a container has logged; with Follow until it ends.
func (s *Service) Logs(ctx context.Context, ref string, o apicontainer.LogsOptions) error {
	if !o.ShowStdout && !o.ShowStderr {
		return errdefs.InvalidArgument("You must choose at least one stream")
	}
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	c := e.snapshot()
	if e.removing.Load() || c.Status == Removing || c.Status == Dead {
		return errdefs.Conflict("can not get logs from container which is dead or marked for removal")
	}
	src, err := logSource(c)
	if err != nil {
		return err
	}
	read, err := logOptions(o)
	if err != nil {
		return err
	}
	if c.Status.HasTask() {
		src.Socket = s.socket(e.id)
	}
	if read.Follow && src.Socket != "" {
		defer e.follow(&src)()
	}
	stdout, stderr, err := o.Open(c.Config.Tty)
	if err != nil {
		return err
	}
	ctx, stop := s.within(ctx)
	defer stop()
	return logger.Read(ctx, src, read, stdout, stderr)
}

// logSource is where the log of a container is read, as if it were down.
func logSource(c *Snapshot) (logger.Source, error) {
	set, err := logger.Parse(c.Host.LogConfig)
	if err != nil || set.Hidden || c.LogPath == "" {
		return logger.Source{}, errNoReading
	}
	return logger.Source{Path: c.LogPath, Format: set.Format, Attrs: logAttrs(c)}, nil
}

// logOf is where the log of a container is on disk, also one that is not shown; false
// where there is none.
func logOf(c *Snapshot) (logger.Source, bool) {
	set, err := logger.Parse(c.Host.LogConfig)
	if err != nil || c.LogPath == "" {
		return logger.Source{}, false
	}
	return logger.Source{Path: c.LogPath, Format: set.Format}, true
}

// shownLogPath is the log's path where Docker tells it, once a start has been tried: of
// the other drivers it is the engine's own affair.
func shownLogPath(c *Snapshot) string {
	if c.Host.LogConfig.Type != logger.JSONFile || c.StartedAt.IsZero() && c.Error == "" {
		return ""
	}
	return c.LogPath
}

var errNoReading = errdefs.NotImplemented("configured logging driver does not support reading")

func logOptions(o apicontainer.LogsOptions) (logger.Options, error) {
	out := logger.Options{
		Stdout: o.ShowStdout, Stderr: o.ShowStderr, Timestamps: o.Timestamps, Details: o.Details,
		Follow: o.Follow, Tail: -1,
	}
	if n, err := strconv.Atoi(o.Tail); err == nil {
		out.Tail = n
	}
	var err error
	if out.Since, err = stamp(o.Since); err != nil {
		return out, err
	}
	if o.Until != "0" {
		out.Until, err = stamp(o.Until)
	}
	return out, err
}

func stamp(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	sec, nano, err := timetypes.ParseTimestamps(s, 0)
	if err != nil {
		return time.Time{}, invalid(err)
	}
	return time.Unix(sec, nano), nil
}

// within returns a context that ends with ctx and with the daemon.
func (s *Service) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(reqctx.ErrGoingDown) })
	return ctx, func() { stop(); cancel(nil) }
}
