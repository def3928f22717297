package client

import (
	"context"
	"fmt"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
)

// Tasks returns the core's tasks.
func (c *Client) Tasks() task.Manager {
	return &tasks{rpc: tasksapi.NewTasksClient(c.conn), ns: c.ns}
}

type tasks struct {
	rpc tasksapi.TasksClient
	ns  string // for contexts without one
}

var _ task.Manager = (*tasks)(nil)

func (t *tasks) Create(ctx context.Context, o task.CreateOptions) (uint32, error) {
	options, err := createOptions(o)
	if err != nil {
		return 0, err
	}
	r, err := t.rpc.Create(ctx, &tasksapi.CreateTaskRequest{
		ContainerID: o.ContainerID,
		Rootfs:      wire.Mounts(o.Rootfs),
		Stdin:       o.IO.Stdin,
		Stdout:      o.IO.Stdout,
		Stderr:      o.IO.Stderr,
		Terminal:    o.IO.Terminal,
		Options:     options,
		RuntimePath: o.ShimPath,
	})
	return r.GetPid(), err
}

// createOptions puts the checkpoint directory where the wire has room for it:
// into the runc options, as containerd's own client does.
func createOptions(o task.CreateOptions) (*anypb.Any, error) {
	if o.Checkpoint == "" {
		return wire.Any(o.Options), nil
	}
	var opts runcoptions.Options
	if o.Options != nil {
		if err := typeurl.UnmarshalTo(o.Options, &opts); err != nil {
			return nil, errdefs.InvalidArgument("restore %s: runtime options: %w", o.ContainerID, err)
		}
	}
	opts.CriuImagePath = o.Checkpoint
	a, err := typeurl.MarshalAny(&opts)
	return wire.Any(a), err
}

func (t *tasks) Start(ctx context.Context, id, execID string) (uint32, error) {
	r, err := t.rpc.Start(ctx, &tasksapi.StartRequest{ContainerID: id, ExecID: execID})
	return r.GetPid(), err
}

func (t *tasks) Delete(ctx context.Context, id, execID string) (task.Exit, error) {
	var r *tasksapi.DeleteResponse
	var err error
	if execID == "" {
		r, err = t.rpc.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: id})
	} else {
		r, err = t.rpc.DeleteProcess(ctx, &tasksapi.DeleteProcessRequest{ContainerID: id, ExecID: execID})
	}
	if err != nil {
		return task.Exit{}, err
	}
	return task.Exit{PID: r.GetPid(), Code: r.GetExitStatus(), At: wire.Time(r.GetExitedAt())}, nil
}

func (t *tasks) Get(ctx context.Context, id, execID string) (task.State, error) {
	r, err := t.rpc.Get(ctx, &tasksapi.GetRequest{ContainerID: id, ExecID: execID})
	if err != nil {
		return task.State{}, err
	}
	s := stateFromProto(r.GetProcess())
	s.ContainerID, s.ExecID = id, execID
	return s, nil
}

func (t *tasks) List(ctx context.Context) ([]task.State, error) {
	r, err := t.rpc.List(ctx, &tasksapi.ListTasksRequest{})
	if err != nil {
		return nil, err
	}
	out := make([]task.State, len(r.GetTasks()))
	for i, p := range r.GetTasks() {
		out[i] = stateFromProto(p)
		if out[i].ContainerID == "" { // containerd names the init of a task by the task's id
			out[i].ContainerID = p.GetID()
		}
	}
	return out, nil
}

func (t *tasks) Kill(ctx context.Context, id, execID string, signal uint32, all bool) error {
	_, err := t.rpc.Kill(ctx, &tasksapi.KillRequest{ContainerID: id, ExecID: execID, Signal: signal, All: all})
	return err
}

func (t *tasks) Exec(ctx context.Context, o task.ExecOptions) error {
	_, err := t.rpc.Exec(ctx, &tasksapi.ExecProcessRequest{
		ContainerID: o.ContainerID,
		ExecID:      o.ExecID,
		Stdin:       o.IO.Stdin,
		Stdout:      o.IO.Stdout,
		Stderr:      o.IO.Stderr,
		Terminal:    o.IO.Terminal,
		Spec:        wire.Any(o.Spec),
	})
	return err
}

func (t *tasks) ResizePty(ctx context.Context, id, execID string, width, height uint32) error {
	_, err := t.rpc.ResizePty(ctx, &tasksapi.ResizePtyRequest{ContainerID: id, ExecID: execID, Width: width, Height: height})
	return err
}

func (t *tasks) CloseIO(ctx context.Context, id, execID string) error {
	_, err := t.rpc.CloseIO(ctx, &tasksapi.CloseIORequest{ContainerID: id, ExecID: execID, Stdin: true})
	return err
}

func (t *tasks) Pause(ctx context.Context, id string) error {
	_, err := t.rpc.Pause(ctx, &tasksapi.PauseTaskRequest{ContainerID: id})
	return err
}

func (t *tasks) Resume(ctx context.Context, id string) error {
	_, err := t.rpc.Resume(ctx, &tasksapi.ResumeTaskRequest{ContainerID: id})
	return err
}

func (t *tasks) Pids(ctx context.Context, id string) ([]task.Process, error) {
	r, err := t.rpc.ListPids(ctx, &tasksapi.ListPidsRequest{ContainerID: id})
	if err != nil {
		return nil, err
	}
	out := make([]task.Process, len(r.GetProcesses()))
	for i, p := range r.GetProcesses() {
		out[i] = task.Process{PID: p.GetPid()}
		if info := p.GetInfo(); info != nil { // a nil *Any in the interface would not be nil
			out[i].Info = info
		}
	}
	return out, nil
}

func (t *tasks) Update(ctx context.Context, id string, resources typeurl.Any, annotations map[string]string) error {
	_, err := t.rpc.Update(ctx, &tasksapi.UpdateTaskRequest{
		ContainerID: id, Resources: wire.Any(resources), Annotations: annotations})
	return err
}

// Metrics filters by namespace too: containerd's service looks through all of
// them otherwise.
func (t *tasks) Metrics(ctx context.Context, id string) (typeurl.Any, error) {
	filter := fmt.Sprintf("id==%q", id)
	ns := reqctx.Namespace(ctx)
	if ns == "" {
		ns = t.ns
	}
	if ns != "" {
		filter = fmt.Sprintf("namespace==%q,%s", ns, filter)
	}
	r, err := t.rpc.Metrics(ctx, &tasksapi.MetricsRequest{Filters: []string{filter}})
	if err != nil {
		return nil, err
	}
	if len(r.GetMetrics()) == 0 || r.GetMetrics()[0].GetData() == nil {
		return nil, errdefs.NotFound("no metrics of task %s", id)
	}
	return r.GetMetrics()[0].GetData(), nil
}

func (t *tasks) Checkpoint(ctx context.Context, id, path string, options typeurl.Any) error {
	if options == nil && path != "" {
		a, err := typeurl.MarshalAny(&runcoptions.CheckpointOptions{ImagePath: path})
		if err != nil {
			return fmt.Errorf("checkpoint options: %w", err)
		}
		options = a
	}
	_, err := t.rpc.Checkpoint(ctx, &tasksapi.CheckpointTaskRequest{ContainerID: id, Options: wire.Any(options)})
	return err
}

func (t *tasks) Wait(ctx context.Context, id, execID string) (task.Exit, error) {
	r, err := t.rpc.Wait(ctx, &tasksapi.WaitRequest{ContainerID: id, ExecID: execID})
	if err != nil {
		return task.Exit{}, err
	}
	return task.Exit{Code: r.GetExitStatus(), At: wire.Time(r.GetExitedAt())}, nil
}

func stateFromProto(p *tasktypes.Process) task.State {
	return task.State{
		ContainerID: p.GetContainerID(),
		PID:         p.GetPid(),
		Status:      task.Status(p.GetStatus()),
		IO: task.IO{
			Stdin: p.GetStdin(), Stdout: p.GetStdout(), Stderr: p.GetStderr(), Terminal: p.GetTerminal()},
		ExitStatus: p.GetExitStatus(),
		ExitedAt:   wire.Time(p.GetExitedAt()),
	}
}
