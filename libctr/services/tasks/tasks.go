// Package tasks serves containerd.services.tasks.v1.Tasks on a task manager. It
// decodes, calls, and encodes; errors leave it with their class and are turned
// into statuses by the server's interceptor.
package tasks

import (
	"cmp"
	"context"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
)

// Service is the gRPC service. Safe for concurrent use.
type Service struct {
	tasksapi.UnimplementedTasksServer
	tasks    task.Manager
	archive  Archive
	unpacked unpacked
}

// New returns the service. archive may be nil: a checkpoint must then name a
// directory. Checkpoints are unpacked in dir, which is the service's own and emptied now.
func New(tasks task.Manager, archive Archive, dir string) (*Service, error) {
	s := &Service{tasks: tasks, archive: archive, unpacked: unpacked{dir: dir, of: map[string]string{}}}
	return s, s.unpacked.clear()
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { tasksapi.RegisterTasksServer(r, s) }

var empty = new(emptypb.Empty)

func (s *Service) Create(ctx context.Context, r *tasksapi.CreateTaskRequest) (*tasksapi.CreateTaskResponse, error) {
	endpoint, version, err := endpoint(r)
	if err != nil {
		return nil, err
	}
	checkpoint, err := s.restoreDir(ctx, r)
	if err != nil {
		return nil, err
	}
	pid, err := s.tasks.Create(ctx, task.CreateOptions{
		ContainerID: r.GetContainerID(),
		Rootfs:      wire.FromMounts(r.GetRootfs()),
		IO:          task.IO{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal()},
		Checkpoint:  checkpoint,
		Options:     anyOrNil(r.GetOptions()),
		ShimPath:    r.GetRuntimePath(),

		Endpoint: endpoint, EndpointVersion: version,
	})
	if err != nil {
		s.unpacked.dropThis(ctx, r.GetContainerID(), checkpoint)
		return nil, err
	}
	return &tasksapi.CreateTaskResponse{ContainerID: r.GetContainerID(), Pid: pid}, nil
}

// endpoint is the shim that the task is to join, as the request says, or the runtime
// options, where it was before.
func endpoint(r *tasksapi.CreateTaskRequest) (address string, version uint32, err error) {
	address, version = r.GetTaskApiAddress(), r.GetTaskApiVersion()
	o := r.GetOptions()
	if address != "" || o == nil || !typeurl.Is(o, &runcoptions.Options{}) {
		return address, version, nil
	}
	var opts runcoptions.Options
	if err := typeurl.UnmarshalTo(o, &opts); err != nil {
		return "", 0, errdefs.InvalidArgument("task options: %w", err)
	}
	//nolint:staticcheck // deprecated, and sent by clients of containerd 1.7
	return opts.GetTaskApiAddress(), cmp.Or(version, opts.GetTaskApiVersion()), nil
}

func (s *Service) Start(ctx context.Context, r *tasksapi.StartRequest) (*tasksapi.StartResponse, error) {
	pid, err := s.tasks.Start(ctx, r.GetContainerID(), r.GetExecID())
	if r.GetExecID() == "" { // it has been restored, or never will be
		s.unpacked.drop(ctx, r.GetContainerID())
	}
	if err != nil {
		return nil, err
	}
	return &tasksapi.StartResponse{Pid: pid}, nil
}

func (s *Service) Delete(ctx context.Context, r *tasksapi.DeleteTaskRequest) (*tasksapi.DeleteResponse, error) {
	e, err := s.tasks.Delete(ctx, r.GetContainerID(), "")
	if err == nil {
		s.unpacked.drop(ctx, r.GetContainerID())
	}
	return deleted("", e, err)
}

func (s *Service) DeleteProcess(ctx context.Context, r *tasksapi.DeleteProcessRequest) (*tasksapi.DeleteResponse, error) {
	if r.GetExecID() == "" {
		return nil, errdefs.InvalidArgument("exec id cannot be empty")
	}
	e, err := s.tasks.Delete(ctx, r.GetContainerID(), r.GetExecID())
	return deleted(r.GetExecID(), e, err)
}

// deleted encodes the answer of both deletes; the id is set for an exec only.
func deleted(execID string, e task.Exit, err error) (*tasksapi.DeleteResponse, error) {
	if err != nil {
		return nil, err
	}
	return &tasksapi.DeleteResponse{ID: execID, Pid: e.PID, ExitStatus: e.Code, ExitedAt: moment(e.At)}, nil
}

func (s *Service) Get(ctx context.Context, r *tasksapi.GetRequest) (*tasksapi.GetResponse, error) {
	st, err := s.tasks.Get(ctx, r.GetContainerID(), r.GetExecID())
	if err != nil {
		return nil, err
	}
	return &tasksapi.GetResponse{Process: process(st)}, nil
}

func (s *Service) List(ctx context.Context, _ *tasksapi.ListTasksRequest) (*tasksapi.ListTasksResponse, error) {
	states, err := s.tasks.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &tasksapi.ListTasksResponse{Tasks: make([]*tasktypes.Process, len(states))}
	for i, st := range states {
		resp.Tasks[i] = process(st)
	}
	return resp, nil
}

// never is what clients of containerd take for no time; one that is not sent is 1970 to them.
var never = timestamppb.New(time.Time{})

func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return never
	}
	return wire.Timestamp(t)
}

// process encodes a state as containerd does: ID is the exec's, or the
// container's for the init, and nothing else names the container.
func process(st task.State) *tasktypes.Process {
	id := st.ExecID
	if id == "" {
		id = st.ContainerID
	}
	return &tasktypes.Process{
		ID:         id,
		Pid:        st.PID,
		Status:     tasktypes.Status(st.Status),
		Stdin:      st.IO.Stdin,
		Stdout:     st.IO.Stdout,
		Stderr:     st.IO.Stderr,
		Terminal:   st.IO.Terminal,
		ExitStatus: st.ExitStatus,
		ExitedAt:   moment(st.ExitedAt),
	}
}

func (s *Service) Kill(ctx context.Context, r *tasksapi.KillRequest) (*emptypb.Empty, error) {
	return empty, s.tasks.Kill(ctx, r.GetContainerID(), r.GetExecID(), r.GetSignal(), r.GetAll())
}

func (s *Service) Exec(ctx context.Context, r *tasksapi.ExecProcessRequest) (*emptypb.Empty, error) {
	return empty, s.tasks.Exec(ctx, task.ExecOptions{
		ContainerID: r.GetContainerID(),
		ExecID:      r.GetExecID(),
		IO:          task.IO{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal()},
		Spec:        anyOrNil(r.GetSpec()),
	})
}

func (s *Service) ResizePty(ctx context.Context, r *tasksapi.ResizePtyRequest) (*emptypb.Empty, error) {
	return empty, s.tasks.ResizePty(ctx, r.GetContainerID(), r.GetExecID(), r.GetWidth(), r.GetHeight())
}

// CloseIO without stdin closes nothing, as in containerd.
func (s *Service) CloseIO(ctx context.Context, r *tasksapi.CloseIORequest) (*emptypb.Empty, error) {
	if !r.GetStdin() {
		_, err := s.tasks.Get(ctx, r.GetContainerID(), r.GetExecID())
		return empty, err
	}
	return empty, s.tasks.CloseIO(ctx, r.GetContainerID(), r.GetExecID())
}

func (s *Service) Pause(ctx context.Context, r *tasksapi.PauseTaskRequest) (*emptypb.Empty, error) {
	return empty, s.tasks.Pause(ctx, r.GetContainerID())
}

func (s *Service) Resume(ctx context.Context, r *tasksapi.ResumeTaskRequest) (*emptypb.Empty, error) {
	return empty, s.tasks.Resume(ctx, r.GetContainerID())
}

func (s *Service) ListPids(ctx context.Context, r *tasksapi.ListPidsRequest) (*tasksapi.ListPidsResponse, error) {
	procs, err := s.tasks.Pids(ctx, r.GetContainerID())
	if err != nil {
		return nil, err
	}
	resp := &tasksapi.ListPidsResponse{Processes: make([]*tasktypes.ProcessInfo, len(procs))}
	for i, p := range procs {
		resp.Processes[i] = &tasktypes.ProcessInfo{Pid: p.PID, Info: wire.Any(p.Info)}
	}
	return resp, nil
}

func (s *Service) Update(ctx context.Context, r *tasksapi.UpdateTaskRequest) (*emptypb.Empty, error) {
	return empty, s.tasks.Update(ctx, r.GetContainerID(), anyOrNil(r.GetResources()), r.GetAnnotations())
}

func (s *Service) Wait(ctx context.Context, r *tasksapi.WaitRequest) (*tasksapi.WaitResponse, error) {
	e, err := s.tasks.Wait(ctx, r.GetContainerID(), r.GetExecID())
	if err != nil {
		return nil, err
	}
	return &tasksapi.WaitResponse{ExitStatus: e.Code, ExitedAt: wire.Timestamp(e.At)}, nil
}

// anyOrNil keeps a nil message a nil interface.
func anyOrNil[T interface {
	typeurl.Any
	comparable
}](a T) typeurl.Any {
	var zero T
	if a == zero {
		return nil
	}
	return a
}
