// Package service is the shim's task API: containerd.task.v3.Task and v2 over
// ttrpc. One service runs one container, or several that share the shim.
//
// Events go out in the order in which package process tells of them, under the
// topics and with the messages of containerd's own shim.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/shimwire"
	"gantry/runtime/bundle"
	"gantry/shim/exitfile"
	"gantry/shim/output"
	"gantry/shim/port"
	"gantry/shim/process"
	"gantry/shim/reaper"
	"gantry/shim/stdio"
	"gantry/shim/stream"
)

// Publisher takes events and does not block.
type Publisher interface {
	Publish(topic string, event proto.Message)
}

// Config is what a service is made of.
type Config struct {
	Namespace string
	Reaper    *reaper.Reaper
	Events    Publisher
	Log       *slog.Logger
	// Runtime chooses the runtime for a task by its options, and notes what must be
	// known to clean up after it; socket is the stream socket, "" for none.
	Runtime func(options *anypb.Any, bundle, socket string) (process.Runtime, error)
	// Shutdown is called once when the engine asks for the end and no container is left,
	// and with OneTask when the container has been deleted.
	Shutdown func()
	OneTask  bool
}

// Service is the task API. Safe for concurrent use.
type Service struct {
	cfg  Config
	once sync.Once // Shutdown

	// draining are the stream servers of deleted containers, which drainCtx ends,
	// and hops on their way to Events.
	draining  sync.WaitGroup
	drainCtx  context.Context
	drainStop context.CancelFunc

	mu         sync.Mutex
	containers map[string]*container // nil: being created; guarded by mu
	held       bool                  // by a sandbox; guarded by mu
	ending     bool                  // no more containers; guarded by mu
}

// container is a task and what the engine's own extensions add to it.
type container struct {
	*process.Task
	id     string
	stream *stream.Server // nil when the engine did not ask for one
	ports  *port.Set
	root   *os.File // see holdRoot
}

// holdRoot keeps the container's root mounted until this process ends. Who unmounts an
// overlay last waits until the file system below is synced, and that would be the
// container's first process, whose exit the engine waits for. nil when it can't be had.
func holdRoot(pid int) *os.File {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "root")
}

// holdRoot does so for a service of one container, whose process has the root. A task
// that is yet to be restored has none.
func (s *Service) holdRoot(c *container, pid int) {
	if s.cfg.OneTask && pid != 0 {
		c.root = holdRoot(pid)
	}
}

// New returns a service without containers.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, containers: map[string]*container{}}
	s.drainCtx, s.drainStop = context.WithCancel(context.Background())
	return s
}

// Drain waits until the stream clients of deleted containers have got the rest,
// and cuts them off with ctx.
func (s *Service) Drain(ctx context.Context) {
	stop := context.AfterFunc(ctx, s.drainStop)
	defer stop()
	s.draining.Wait()
}

func (s *Service) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.containers) == 0 && !s.held
}

func (s *Service) get(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, errdefs.NotFound("container not created")
}

// reserve takes an id while its container is being created; put ends that.
func (s *Service) reserve(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.containers[id]; taken {
		return errdefs.AlreadyExists("container %s already exists", id)
	}
	if s.ending {
		return errdefs.FailedPrecondition("container %s: its sandbox is being shut down", id)
	}
	s.containers[id] = nil
	return nil
}

func (s *Service) put(id string, c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		delete(s.containers, id)
		return
	}
	s.containers[id] = c
}

// Create implements the API.
func (s *Service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (_ *taskapi.CreateTaskResponse, err error) {
	if err := s.reserve(r.ID); err != nil {
		return nil, err
	}
	ctx, told := s.traced(ctx, r.ID, "shim create")
	defer told()
	c, err := s.create(ctx, r)
	s.put(r.ID, c)
	if err != nil {
		return nil, err
	}
	p, _ := c.Process("")
	pid := uint32(p.Status().Pid)
	return &taskapi.CreateTaskResponse{Pid: pid}, nil
}

func (s *Service) create(ctx context.Context, r *taskapi.CreateTaskRequest) (_ *container, err error) {
	spec, raw, err := bundle.Read(r.Bundle)
	if err != nil {
		return nil, err
	}
	io := stdio.Spec{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}
	socket, err := io.Socket()
	if err != nil {
		return nil, err
	}
	rt, err := s.cfg.Runtime(r.Options, r.Bundle, socket)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("shim/service.create.noted")
	c := &container{id: r.ID, ports: port.New(s.cfg.Log)}
	mounts := make([]process.Mount, 0, len(r.Rootfs))
	for _, m := range r.Rootfs {
		mounts = append(mounts, process.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	tell := &teller{id: r.ID, note: s.noteExit(r.Bundle), publish: s.cfg.Events.Publish, begun: make(chan struct{})}
	c.Task, err = process.New(ctx, process.Options{
		ID: r.ID, Bundle: r.Bundle, Namespace: s.cfg.Namespace, Rootfs: mounts, IO: io, Spec: spec, Config: raw, Checkpoint: r.Checkpoint,
		Runtime: rt, Reaper: s.cfg.Reaper, Tell: tell, Log: s.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit("shim/service.create.created")
	if err := s.listen(c, socket); err != nil {
		tell.silence()
		s.discard(ctx, c)
		return nil, err
	}
	failpoint.Hit("shim/service.create.listening")
	p, _ := c.Process("")
	s.holdRoot(c, p.Status().Pid)
	s.cfg.Events.Publish("/tasks/create", &events.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, Pid: uint32(p.Status().Pid), Checkpoint: r.Checkpoint,
		IO: &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
	tell.begin()
	failpoint.Hit("shim/service.create.told")
	return c, nil
}

// noteExit keeps in the bundle how the init has ended, for who cleans up after a shim that
// dies before its task is deleted.
func (s *Service) noteExit(bundle string) func(reaper.Exit) {
	return func(e reaper.Exit) {
		if err := exitfile.Write(bundle, e); err != nil {
			s.cfg.Log.Warn("note exit", "bundle", bundle, "err", err)
		}
	}
}

// listen makes the stream socket if the engine wants one.
func (s *Service) listen(c *container, socket string) (err error) {
	if socket != "" {
		c.stream, err = stream.Listen(socket, c, s.cfg.Log)
	}
	return err
}

// discard deletes a container that could not be finished.
func (s *Service) discard(ctx context.Context, c *container) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if _, _, err := c.Delete(ctx, ""); err != nil {
		s.cfg.Log.Warn("delete container after failed create", "container", c.id, "err", err)
	}
}

const undoTimeout = 10 * time.Second

// Streams implements stream.Host.
func (c *container) Streams(proc string) (output.Output, stream.Stdin, error) {
	p, err := c.Process(proc)
	if err != nil {
		return nil, nil, err
	}
	out, in := p.IO().Output(), p.IO().Stdin()
	if out == nil {
		return nil, nil, errdefs.NotFound("process has no stream")
	}
	if in == nil {
		return out, nil, nil
	}
	return out, in, nil
}

// Execs implements stream.Lister.
func (c *container) Execs() (list []shimwire.Exec) {
	for _, e := range c.Task.Execs() {
		list = append(list, shimwire.Exec{
			ID: e.ID, Started: e.State != process.Created, Pid: e.Pid, Args: slices.Clone(e.Spec.Args), Cwd: e.Spec.Cwd,
			Terminal: e.IO.Terminal, Stdin: e.IO.Stdin != "", Stdout: e.IO.Stdout != "", Stderr: e.IO.Stderr != "",
		})
	}
	return list
}

// Probe implements stream.Prober.
func (c *container) Probe(ctx context.Context, p *specs.Process, o shimwire.Probe) (shimwire.Probed, error) {
	if !fileName(o.ID) {
		return shimwire.Probed{}, errdefs.InvalidArgument("invalid exec id %q", o.ID)
	}
	r, err := c.Task.Probe(ctx, process.ProbeOptions{ID: o.ID, Spec: p, Timeout: o.Timeout, Limit: shimwire.MaxProbeOutput})
	return shimwire.Probed{Status: r.Exit.Status, At: r.Exit.At, TimedOut: r.TimedOut, Output: r.Output, Cut: r.Cut}, err
}

// HoldPorts implements stream.Host.
func (c *container) HoldPorts(ports []shimwire.Port) error { return c.ports.Hold(ports) }
