// Package forward takes the logs of containers to remote targets. What a container
// writes goes to its log's files, by its shim; a forwarder follows them, as a reader with
// --follow does, and sends each entry on. How far it has come is on disk beside the log,
// so that it goes on there after the daemon has ended in any way.
//
// Entries arrive in order and at least once: what is not known to have arrived is sent
// again. A target that is down or slow holds up nobody; what is rotated away meanwhile is
// lost to it, counted, and told in the daemon's log.
//
// There is one goroutine per container that runs, or has something left to send.
package forward

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/fluentd"
	"gantry/daemon/logger/target/gelf"
	"gantry/daemon/logger/target/journald"
	"gantry/daemon/logger/target/syslog"
)

// Container is whose log is forwarded, and where it is.
type Container struct {
	Driver  string
	Subject logger.Subject
	Path    string // of the log
	Format  logfile.Format
	Socket  string // of the shim's streams
	State   string // the file that remembers the position
}

func (c *Container) id() string { return c.Subject.ContainerID }

// Service is the forwarders of all containers. Safe for concurrent use.
type Service struct {
	log  *slog.Logger
	open context.Context // ended by Close: nothing more is read
	stop context.CancelFunc
	life context.Context // ends a little later, and with it what is under way to a target
	end  context.CancelFunc
	work sync.WaitGroup

	mu  sync.Mutex
	all map[string]*forwarder // guarded by mu; by container
}

// New returns a service without forwarders.
func New(log *slog.Logger) *Service {
	s := &Service{log: log, all: map[string]*forwarder{}}
	s.life, s.end = context.WithCancel(context.Background())
	s.open, s.stop = context.WithCancel(s.life)
	return s
}

// closeTimeout is how long Close waits for what is under way.
const closeTimeout = 2 * time.Second

// Close ends the forwarders where they are; containers and their logs go on.
func (s *Service) Close() error {
	s.stop()
	defer time.AfterFunc(closeTimeout, s.end).Stop()
	s.work.Wait()
	s.end()
	return nil
}

// Target is a target that has been opened for a container's start.
type Target struct {
	target.Target
	pace target.Pace
}

// Open makes the target of a container that is about to start. With reach, and unless
// its options say otherwise, it must be there.
func Open(ctx context.Context, c Container, reach bool) (*Target, error) {
	t, err := open(c)
	if err == nil && reach && !t.pace.Lazy {
		err = t.Connect(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to initialize logging driver: %w", err)
	}
	return t, nil
}

// defaultTag is the tag of a container whose options say none.
const defaultTag = "{{.ID}}"

func open(c Container) (*Target, error) {
	tag, err := c.Subject.Tag(defaultTag)
	if err != nil {
		return nil, err
	}
	attrs, err := c.Subject.ExtraAttributes(nil)
	if err != nil {
		return nil, err
	}
	of := target.Container{
		ID: c.id(), Name: c.Subject.Name(), ImageID: c.Subject.ContainerImageID, ImageName: c.Subject.ContainerImageName,
		Command: c.Subject.Command(), Created: c.Subject.ContainerCreated, Tag: tag, Attrs: attrs,
	}
	t := &Target{}
	switch o := c.Subject.Config; c.Driver {
	case logger.Syslog:
		t.Target, t.pace, err = syslog.New(o, of)
	case logger.Journald:
		t.Target, t.pace, err = journald.New(journald.Socket, of)
	case logger.Fluentd:
		t.Target, t.pace, err = fluentd.New(o, of)
	case logger.GELF:
		t.Target, t.pace, err = gelf.New(o, of)
	default:
		err = fmt.Errorf("no target for log driver '%s'", c.Driver)
	}
	return t, err
}

// Start forwards the log of a container that runs, or of one that has ended until all is
// sent. t, which may be nil, is its own from here on.
func (s *Service) Start(c Container, t *Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.Err() != nil {
		closeTarget(t)
		return
	}
	if f := s.all[c.id()]; f != nil { // at the rest of the run before
		closeTarget(t)
		f.runs++
		f.poke()
		return
	}
	f := newForwarder(s.open, s.life, c, t, s.log.With("container", c.id(), "driver", c.Driver))
	s.all[c.id()] = f
	s.work.Go(func() { f.run(s) })
}

func closeTarget(t *Target) {
	if t != nil {
		t.Close()
	}
}

// over says whether f, which has sent all there was when runs runs had begun, may end.
func (s *Service) over(f *forwarder, runs int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.runs != runs {
		return false
	}
	delete(s.all, f.c.id())
	return true
}

func (s *Service) runs(f *forwarder) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.runs
}

// removeTimeout bounds how long a removal waits for the rest to be sent.
const removeTimeout = 5 * time.Second

// Remove ends the forwarder of a container that is down and about to be removed: what is
// left is sent if the target takes it now.
func (s *Service) Remove(ctx context.Context, id string) {
	s.mu.Lock()
	f := s.all[id]
	s.mu.Unlock()
	if f == nil {
		return
	}
	f.hurry()
	timer := time.NewTimer(removeTimeout)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	f.cancel()
	<-f.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[id] == f { // it has not ended by itself
		delete(s.all, id)
		f.log.WarnContext(ctx, "the end of a removed container's log has not been forwarded", "err", f.err)
	}
}
