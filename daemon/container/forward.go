package container

import (
	"context"
	"path/filepath"

	"gantry/api/undo"
	"gantry/daemon/logger"
	"gantry/daemon/logger/forward"
)

// openTarget makes the place that a remote log driver sends to; nil with any other. A
// user's start fails where the place is not there. One that the engine makes by itself
// does not: the log is kept until it is.
func (s *Service) openTarget(ctx context.Context, e *entry, c *Snapshot, steps *undo.Stack) (_ *forward.Target, err error) {
	of, remote := s.forwarded(c)
	if !remote {
		return nil, nil
	}
	ctx, end := step(ctx, "open log target")
	defer end(&err)
	byUser := e.restarts() == 0 && ctx.Value(unattended{}) == nil
	t, err := forward.Open(ctx, of, byUser)
	if err != nil {
		return nil, taskError(withPrefix(err))
	}
	steps.Add("close log target", func(context.Context) error { return t.Close() })
	return t, nil
}

// unattended is the key of a context of starts that no user waits for.
type unattended struct{}

// forward takes up a container's log where its forwarder left it, to send the rest and
// what comes; t, which may be nil, is for it.
func (s *Service) forward(c *Snapshot, t *forward.Target) {
	if of, remote := s.forwarded(c); remote {
		s.forwards.Start(of, t)
	}
}

// forwarded is what a forwarder is told of the container, if its log driver is remote.
func (s *Service) forwarded(c *Snapshot) (forward.Container, bool) {
	set, err := logger.Parse(c.Host.LogConfig)
	if err != nil || !set.Remote {
		return forward.Container{}, false
	}
	return forward.Container{
		Driver: set.Driver, Subject: *logSubject(c), Path: c.LogPath, Format: set.Format,
		Socket: s.socket(c.ID), State: filepath.Join(s.dir(c.ID), "forwarded"),
	}, true
}
