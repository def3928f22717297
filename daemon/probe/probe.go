// Package probe runs the health checks of containers. Each container that is checked has
// a watch: a timer, and for the time of a check a goroutine that asks the container's
// shim to run the process, over a connection that stays open between checks. A check
// makes no record, is no process of the core's, and writes nothing to disk.
//
// Locks: Service.mu, then watch.mu; they cover memory only.
package probe

import (
	"context"
	"log/slog"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/shimwire"
	"gantry/daemon/container"
	"gantry/daemon/health"
	"gantry/libctr/core/task"
)

// Containers is what checks need of containers; daemon/container.Service implements it.
type Containers interface {
	Target(ref string) (container.Target, error)
	PublishFleeting(id string, action events.Action, extra map[string]string)
	// SetChecks says whom to tell of runs that begin, go on, rest and end.
	SetChecks(c container.Checks)
	// Checked commits a result if valid, which is asked under the lock under which a run
	// ends, and returns the health as it is then.
	Checked(id string, c health.Check, r containertypes.HealthcheckResult, valid func() bool) *health.Health
}

// Execs makes the process of an exec; daemon/exec.Service implements it.
type Execs interface {
	Process(ctx context.Context, t container.Target, o containertypes.ExecOptions) (*specs.Process, error)
}

// Tasks is what is needed of the core's tasks where the shim runs no probes.
type Tasks interface {
	Exec(ctx context.Context, o task.ExecOptions) error
	Start(ctx context.Context, id, execID string) (pid uint32, err error)
	Kill(ctx context.Context, id, execID string, signal uint32, all bool) error
	Delete(ctx context.Context, id, execID string) (task.Exit, error)
	Wait(ctx context.Context, id, execID string) (task.Exit, error)
}

// Prober is a shim's end; *shimwire.Prober is one.
type Prober interface {
	Run(ctx context.Context, o shimwire.Probe) (shimwire.Probed, error)
	Close() error
}

// Dial opens a prober; shimwire.DialProber in earnest.
type Dial func(ctx context.Context, socket string, process []byte) (Prober, error)

// Service keeps the watches. Safe for concurrent use.
type Service struct {
	containers Containers
	execs      Execs
	tasks      Tasks
	dial       Dial
	log        *slog.Logger

	life context.Context // of the daemon
	end  context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	watches map[string]*watch // guarded by mu; by container
	ended   bool              // guarded by mu
}

// New makes the service; dial nil is the shim's socket.
func New(c Containers, e Execs, t Tasks, dial Dial, log *slog.Logger) *Service {
	if dial == nil {
		dial = func(ctx context.Context, socket string, process []byte) (Prober, error) {
			return shimwire.DialProber(ctx, socket, process)
		}
	}
	s := &Service{containers: c, execs: e, tasks: t, dial: dial, log: log, watches: map[string]*watch{}}
	s.life, s.end = context.WithCancel(context.Background())
	c.SetChecks(s)
	return s
}

// Close ends all checks; those under way are broken off.
func (s *Service) Close() error {
	s.mu.Lock()
	s.ended = true
	watches := s.watches
	s.watches = map[string]*watch{}
	s.mu.Unlock()
	s.end()
	for _, w := range watches {
		w.stop()
	}
	s.work.Wait()
	return nil
}

// Begin watches a container that runs, from now on. Of one that has no check, or is
// watched, it does nothing.
func (s *Service) Begin(c *container.Snapshot) {
	check, ok := health.Of(c.Config)
	if !ok {
		return
	}
	w := &watch{s: s, id: c.ID, check: check, started: c.StartedAt}
	w.ctx, w.cancel = context.WithCancel(s.life)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.watches[c.ID] != nil {
		w.cancel()
		return
	}
	s.watches[c.ID] = w
	w.arm(check.Wait(c.Health, c.StartedAt, time.Now()))
}

// Rest ends a container's watch and breaks off a check under way; its result is of no
// more use. It does not wait for it.
func (s *Service) Rest(id string) {
	s.mu.Lock()
	w := s.watches[id]
	delete(s.watches, id)
	s.mu.Unlock()
	if w != nil {
		w.stop()
	}
}
