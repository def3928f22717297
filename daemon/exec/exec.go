// Package exec is further processes in running containers, as `docker exec` makes
// them: a record in memory, and an exec of the core's task while it runs. Records of
// execs that have ended are kept for a while, so that their exit code can be read.
package exec

import (
	"context"
	"log/slog"
	"sync"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/shimwire"
	"gantry/daemon/container"
	"gantry/daemon/host"
	"gantry/daemon/stream"
	"gantry/libctr/core/task"
)

// Containers is what execs need of containers; daemon/container.Service implements it.
type Containers interface {
	Target(ref string) (container.Target, error)
	LookupUser(ctx context.Context, c *container.Snapshot, user string) (specs.User, string, error)
	Publish(id string, action events.Action, extra map[string]string)
	OnRemove(f func(id string))
	OnExit(f func(id string))
	Adopted() []container.Target
	SetExecs(f func(id string) []string)
}

// Tasks is what is needed of the core's tasks; see task.Manager.
type Tasks interface {
	Exec(ctx context.Context, o task.ExecOptions) error
	Start(ctx context.Context, id, execID string) (pid uint32, err error)
	Delete(ctx context.Context, id, execID string) (task.Exit, error)
	Wait(ctx context.Context, id, execID string) (task.Exit, error)
	CloseIO(ctx context.Context, id, execID string) error
	ResizePty(ctx context.Context, id, execID string, width, height uint32) error
}

// Dial opens a stream of our shim; shimwire.Dial in earnest.
type Dial func(ctx context.Context, socket string, h shimwire.Hello) (stream.Process, error)

// List asks our shim for the execs that it has; shimwire.ListExecs in earnest.
type List func(ctx context.Context, socket string) ([]shimwire.Exec, error)

// Config is constant after New.
type Config struct {
	NoNewPrivileges bool
	Ulimits         []*containertypes.Ulimit
	Host            host.Features
	Dial            Dial // nil is the shim's socket
	List            List // nil is the shim's socket
	Keepers         Keepers
}

// Service implements router/exec.Backend. Safe for concurrent use.
type Service struct {
	cfg        Config
	containers Containers
	tasks      Tasks
	log        *slog.Logger

	life context.Context // of the daemon
	end  context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	execs map[string]*exec // guarded by mu; by id
	ended []*exec          // guarded by mu; in the order of their ends

	endedSize int // guarded by mu; of all ended
}

// New makes the service; it does no I/O.
func New(cfg Config, c Containers, t Tasks, log *slog.Logger) *Service {
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, socket string, h shimwire.Hello) (stream.Process, error) {
			return shimwire.Dial(ctx, socket, h)
		}
	}
	if cfg.List == nil {
		cfg.List = shimwire.ListExecs
	}
	s := &Service{cfg: cfg, containers: c, tasks: t, log: log, execs: map[string]*exec{}}
	s.life, s.end = context.WithCancel(context.Background())
	c.OnRemove(s.forget)
	c.OnExit(s.forgetCreated)
	c.SetExecs(s.running)
	s.work.Go(s.prune)
	return s
}

// Close ends the service's own work; processes go on.
func (s *Service) Close() error {
	s.end()
	s.work.Wait()
	return nil
}
