package service

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/shim/metrics"
	"gantry/shim/process"
	"gantry/shim/reaper"
	"gantry/shim/stdio"
)

var none = &emptypb.Empty{}

// never is when what runs has ended; containerd 2 takes a time that is not sent for 1970.
var never = timestamppb.New(time.Time{})

// Start implements the API.
func (s *Service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	ctx, told := s.traced(ctx, r.ID, "shim start")
	defer told()
	pid, err := c.Start(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.ExecID == "" && c.root == nil { // it was restored; no second start gets here
		s.holdRoot(c, pid)
	}
	failpoint.Hit("shim/service.start.started")
	return &taskapi.StartResponse{Pid: uint32(pid)}, nil
}

// Exec implements the API.
func (s *Service) Exec(ctx context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	if !fileName(r.ExecID) {
		return nil, errdefs.InvalidArgument("invalid exec id %q", r.ExecID)
	}
	spec := new(specs.Process)
	if err := json.Unmarshal(r.GetSpec().GetValue(), spec); err != nil {
		return nil, errdefs.InvalidArgument("process of exec: %w", err)
	}
	io := stdio.Spec{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}
	if err := c.AddExec(ctx, r.ExecID, spec, io); err != nil {
		return nil, err
	}
	failpoint.Hit("shim/service.exec.added")
	s.cfg.Events.Publish("/tasks/exec-added", &events.TaskExecAdded{ContainerID: r.ID, ExecID: r.ExecID})
	return none, nil
}

// fileName says whether an exec id can be part of a file's name: containerd's
// rule for identifiers.
func fileName(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i, c := range []byte(id) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// Delete implements the API.
func (s *Service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	pid, e, err := c.Delete(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("shim/service.delete.deleted")
	at := timestamppb.New(e.At)
	if r.ExecID == "" {
		c.ports.Release()
		failpoint.Hit("shim/service.delete.ports")
		s.closeStream(c)
		failpoint.Hit("shim/service.delete.stream")
		s.put(r.ID, nil)
		failpoint.Hit("shim/service.delete.forgotten")
		s.cfg.Events.Publish("/tasks/delete", &events.TaskDelete{
			ContainerID: r.ID, Pid: uint32(pid), ExitStatus: uint32(e.Status), ExitedAt: at,
		})
		if s.cfg.OneTask {
			s.Quit()
		}
	}
	return &taskapi.DeleteResponse{Pid: uint32(pid), ExitStatus: uint32(e.Status), ExitedAt: at}, nil
}

// closeStream takes no more clients; those that are behind get the rest.
func (s *Service) closeStream(c *container) {
	if c.stream == nil {
		return
	}
	if err := c.stream.Close(); err != nil {
		s.cfg.Log.Warn("remove stream socket", "container", c.id, "err", err)
	}
	s.draining.Go(func() { c.stream.Drain(s.drainCtx) })
}

// State implements the API.
func (s *Service) State(_ context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	st := p.Status()
	a := &taskapi.StateResponse{
		ID: r.ID, Bundle: c.Bundle(), Pid: uint32(st.Pid), Status: statuses[st.State], ExecID: r.ExecID,
		Stdin: st.IO.Stdin, Stdout: st.IO.Stdout, Stderr: st.IO.Stderr, Terminal: st.IO.Terminal, ExitedAt: never,
	}
	if st.State == process.Stopped || st.State == process.Deleted {
		a.ExitStatus, a.ExitedAt = uint32(st.Exit.Status), timestamppb.New(st.Exit.At)
	}
	return a, nil
}

var statuses = map[process.State]tasktypes.Status{
	process.Created: tasktypes.Status_CREATED,
	process.Running: tasktypes.Status_RUNNING,
	process.Paused:  tasktypes.Status_PAUSED,
	process.Stopped: tasktypes.Status_STOPPED,
	process.Deleted: tasktypes.Status_STOPPED,
}

func (s *Service) process(id, exec string) (*container, *process.Process, error) {
	c, err := s.get(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.Process(exec)
	return c, p, err
}

// making says whether a container, or an exec in it, is being made.
func (s *Service) making(id, exec string) bool {
	s.mu.Lock()
	c, there := s.containers[id]
	s.mu.Unlock()
	if c == nil {
		return there
	}
	return c.Opening(exec)
}

// Pids implements the API.
func (s *Service) Pids(_ context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	pids, err := c.Pids()
	if err != nil {
		return nil, err
	}
	if len(pids) == 0 { // containerd 2 ends a shim that lists nothing, and with it forgets how the task has ended
		return nil, errdefs.FailedPrecondition("no process of task %s is left", r.ID)
	}
	names := c.ExecPids()
	a := new(taskapi.PidsResponse)
	for _, pid := range pids {
		info := &tasktypes.ProcessInfo{Pid: uint32(pid)}
		if name := names[pid]; name != "" {
			if info.Info, err = details(name); err != nil {
				return nil, err
			}
		}
		a.Processes = append(a.Processes, info)
	}
	return a, nil
}

func details(exec string) (*anypb.Any, error) {
	m := &options.ProcessDetails{ExecID: exec}
	value, err := proto.Marshal(m)
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, err
}

// Pause implements the API.
func (s *Service) Pause(ctx context.Context, r *taskapi.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.Pause(ctx); err != nil {
		return nil, err
	}
	s.cfg.Events.Publish("/tasks/paused", &events.TaskPaused{ContainerID: r.ID})
	return none, nil
}

// Resume implements the API.
func (s *Service) Resume(ctx context.Context, r *taskapi.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.Resume(ctx); err != nil {
		return nil, err
	}
	s.cfg.Events.Publish("/tasks/resumed", &events.TaskResumed{ContainerID: r.ID})
	return none, nil
}

// Checkpoint implements the API. The directory of the request comes before the one
// that the options name.
func (s *Service) Checkpoint(ctx context.Context, r *taskapi.CheckpointTaskRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	var o options.CheckpointOptions
	if r.Options != nil && len(r.Options.Value) > 0 {
		if err := proto.Unmarshal(r.Options.Value, &o); err != nil {
			return nil, errdefs.InvalidArgument("checkpoint options: %w", err)
		}
	}
	return none, c.Checkpoint(ctx, process.CheckpointOptions{
		ImagePath: cmp.Or(r.Path, o.ImagePath), WorkPath: o.WorkPath, ParentPath: o.ParentPath,
		Exit: o.Exit, OpenTCP: o.OpenTcp, ExternalUnixSockets: o.ExternalUnixSockets, Terminal: o.Terminal,
		FileLocks: o.FileLocks, EmptyNamespaces: o.EmptyNamespaces, CgroupsMode: o.CgroupsMode,
	})
}

// Kill implements the API.
func (s *Service) Kill(ctx context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	return none, c.Kill(ctx, r.ExecID, unix.Signal(r.Signal), r.All)
}

// ResizePty implements the API. Without a terminal nothing is done, as by containerd's shim.
func (s *Service) ResizePty(_ context.Context, r *taskapi.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil || !p.Status().IO.Terminal {
		return none, err
	}
	return none, p.IO().Resize(uint16(min(r.Width, 0xffff)), uint16(min(r.Height, 0xffff)))
}

// CloseIO implements the API. A client's input may be at its end before the call has
// returned that makes the process, whose streams are open by then: that is awaited.
func (s *Service) CloseIO(ctx context.Context, r *taskapi.CloseIORequest) (*emptypb.Empty, error) {
	if err := until(ctx, func() bool { return !s.making(r.ID, r.ExecID) }); err != nil {
		return nil, err
	}
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.IO().CloseStdin()
	}
	return none, nil
}

// Update implements the API.
func (s *Service) Update(ctx context.Context, r *taskapi.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	res := new(specs.LinuxResources)
	if err := json.Unmarshal(r.GetResources().GetValue(), res); err != nil {
		return nil, errdefs.InvalidArgument("resources: %w", err)
	}
	return none, c.Update(ctx, res)
}

// Wait implements the API.
func (s *Service) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	var e reaper.Exit
	if e, err = p.Wait(ctx); err != nil {
		return nil, err
	}
	return &taskapi.WaitResponse{ExitStatus: uint32(e.Status), ExitedAt: timestamppb.New(e.At)}, nil
}

// Stats implements the API.
func (s *Service) Stats(_ context.Context, r *taskapi.StatsRequest) (*taskapi.StatsResponse, error) {
	c, err := s.get(r.ID)
	if err != nil {
		return nil, err
	}
	stats, err := c.Stats()
	if err != nil {
		return nil, err
	}
	packed, err := metrics.Any(stats)
	if err != nil {
		return nil, err
	}
	return &taskapi.StatsResponse{Stats: packed}, nil
}

// Connect implements the API.
func (s *Service) Connect(_ context.Context, r *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	a := &taskapi.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if _, p, err := s.process(r.ID, ""); err == nil {
		a.TaskPid = uint32(p.Status().Pid)
	}
	return a, nil
}

// Shutdown implements the API. The answer goes out first; with containers left
// nothing happens.
func (s *Service) Shutdown(context.Context, *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	s.Quit()
	return none, nil
}

// Quit asks for the end; with containers left nothing happens.
func (s *Service) Quit() {
	if s.empty() {
		s.once.Do(s.cfg.Shutdown)
	}
}
