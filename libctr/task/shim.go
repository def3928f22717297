package task

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
)

// shim is a running shim and the task in it.
type shim struct {
	key
	bundle *bundle
	binary string
	boot   bootstrap
	log    *slog.Logger
	tracer trace.Tracer
	fifo   *os.File // the shim's log, nil when it has none
	child  *child   // the shim's process when this core has executed it, else nil

	link   atomic.Pointer[link] // never nil once attach has succeeded
	stuck  atomic.Bool          // the last State went unanswered
	limit  time.Duration        // of a State call
	housed bool                 // counted as one who lives in its shim; guarded by homes.mu
	mute   atomic.Bool          // it has not answered yet since it was found at start

	dialling sync.Mutex      // one redial at a time; held over the dial, waited for by redials only
	redialed time.Time       // when that last succeeded; guarded by dialling
	stopping <-chan struct{} // closed when the manager closes

	deleting chan struct{} // holds one token: one Delete of the task at a time
	gone     chan struct{} // closed when the shim is known to be no more; exit is set then
	buried   chan struct{} // closed when nothing of it is left

	mu      sync.Mutex
	pid     uint32     // guarded by mu; the init's, 0 when not known
	exit    *task.Exit // guarded by mu; the init's, once it has ended
	phase   phase      // guarded by mu
	orphan  bool       // guarded by mu; the connection was lost before the task was adopted
	leaving sync.Once
}

// phase says what the loss of the connection means.
type phase uint8

const (
	creating phase = iota // whoever creates the task notices by itself
	live                  // the shim is dialled again, or buried
	left                  // nothing: it is being ended, or let go, by whoever set this
)

// link is one connection of a shim; over is closed when another has taken its
// place or when there will be none.
type link struct {
	*conn
	over chan struct{}
}

func (m *Manager) newShim(b *bundle, binary string) *shim {
	s := &shim{
		key:      key{b.ns, b.id},
		bundle:   b,
		binary:   binary,
		log:      m.log.With("namespace", b.ns, "container", b.id),
		tracer:   m.tracer,
		limit:    m.cfg.Timeouts.State,
		stopping: m.life.Done(),
		deleting: make(chan struct{}, 1),
		gone:     make(chan struct{}),
		buried:   make(chan struct{}),
	}
	s.deleting <- struct{}{}
	return s
}

// attach connects to the shim; lost is called when the connection ends.
func (s *shim) attach(ctx context.Context, lost func(*shim)) error {
	l := &link{over: make(chan struct{})}
	c, err := connect(ctx, s.boot, s.tracer, func() { lost(s) })
	if err != nil {
		return err
	}
	l.conn = c
	if old := s.link.Swap(l); old != nil {
		close(old.over)
	}
	return nil
}

// adopt makes the loss of the connection mean the death of the shim, from now on.
// It returns false when the connection is lost already.
func (s *shim) adopt() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = live
	return !s.orphan
}

// noteLost says whether a lost connection is to be looked into.
func (s *shim) noteLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == creating {
		s.orphan = true
	}
	return s.phase == live
}

// claim makes its caller the one who ends the shim; false says that another does.
func (s *shim) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == left {
		return false
	}
	s.phase = left
	return true
}

// leave closes the connection and the log; the shim goes on.
func (s *shim) leave() {
	s.leaving.Do(func() {
		s.claim()
		if l := s.link.Load(); l != nil {
			l.close()
		}
		if s.fifo != nil {
			s.fifo.Close()
		}
	})
}

// call makes one call in the shim's namespace; see conn.call.
func (s *shim) call(ctx context.Context, timeout time.Duration, method string, req, resp any) error {
	err := s.link.Load().call(reqctx.WithNamespace(ctx, s.ns), timeout, method, req, resp)
	if errors.Is(err, errClosed) && s.isGone() {
		return errdefs.NotFound("task %s not found", s.id)
	}
	return err
}

// settled waits until it is known what has become of the shim after l was lost.
// True: it is gone.
func (s *shim) settled(ctx context.Context, l *link) (bool, error) {
	select {
	case <-l.over:
	case <-s.gone:
	case <-s.stopping:
		return s.isGone(), errClosed
	case <-ctx.Done():
		return s.isGone(), ctx.Err()
	}
	return s.isGone(), nil
}

// ask makes a call that does no harm twice: it is repeated on the next connection
// when one is lost under it.
func (s *shim) ask(ctx context.Context, timeout time.Duration, method string, req, resp any) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for {
		l := s.link.Load()
		err := l.call(reqctx.WithNamespace(ctx, s.ns), 0, method, req, resp)
		if !errors.Is(err, errClosed) {
			return err
		}
		gone, err := s.settled(ctx, l)
		if gone {
			return errGone
		}
		if err != nil {
			return err
		}
	}
}

// errGone ends ask when the shim is dead; its caller answers from what is known.
var errGone = errors.New("shim is gone")

func (s *shim) isGone() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

func (s *shim) setPID(pid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
}

func (s *shim) initPID() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// dormant says that the task has no process yet: it is restored from a checkpoint when it
// is started.
func (s *shim) dormant() bool { return s.initPID() == 0 }

// ended notes how the init has ended, the first time it is told; it returns the
// exit that counts and whether it was known before.
func (s *shim) ended(e task.Exit) (task.Exit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit != nil {
		return *s.exit, true
	}
	if e.PID == 0 {
		e.PID = s.pid
	}
	s.exit = &e
	return e, false
}

// exitOf is how a process of a shim that is gone ended. Execs are killed with
// their container.
func (s *shim) exitOf(execID string) task.Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := task.Exit{Code: killedStatus, At: time.Now().UTC()}
	if s.exit != nil {
		e = *s.exit
	}
	if execID != "" {
		e.PID, e.Code = 0, killedStatus
	}
	return e
}

const (
	killedStatus  = 128 + 9
	unknownStatus = 255 // of a task whose shim and delete call told nothing
)

func exitFromProto(pid, status uint32, at *timestamppb.Timestamp) task.Exit {
	return task.Exit{PID: pid, Code: status, At: wire.Time(at)}
}
