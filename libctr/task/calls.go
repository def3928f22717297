package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
	"gantry/libctr/identifier"
)

// Start starts what Create or Exec has made.
func (m *Manager) Start(ctx context.Context, id, execID string) (uint32, error) {
	s, err := m.get(ctx, id)
	if err != nil {
		return 0, err
	}
	var resp taskapi.StartResponse
	deadline := startTimeout
	if execID == "" && s.dormant() {
		deadline = dumpTimeout
	}
	if err := s.call(ctx, deadline, "Start", &taskapi.StartRequest{ID: id, ExecID: execID}, &resp); err != nil {
		return 0, err
	}
	if execID == "" && s.dormant() {
		s.setPID(resp.GetPid())
	}
	failpoint.Hit("libctr/task.start.started")
	return resp.GetPid(), nil
}

// do makes a call of which only the success counts.
func (m *Manager) do(ctx context.Context, id, method string, req any) error {
	s, err := m.get(ctx, id)
	if err != nil {
		return err
	}
	return s.call(ctx, callTimeout, method, req, &emptypb.Empty{})
}

// refuse answers what the shim must not hear, since runc's would die of it. That there is no
// task comes first.
func (m *Manager) refuse(ctx context.Context, id string, why error) error {
	_, err := m.get(ctx, id)
	return cmp.Or(err, why)
}

// Exec prepares a process that Start then starts.
func (m *Manager) Exec(ctx context.Context, o task.ExecOptions) error {
	if o.ExecID == "" {
		return errdefs.InvalidArgument("exec id cannot be empty")
	}
	if err := identifier.Validate(o.ExecID); err != nil {
		return fmt.Errorf("invalid exec id %s: %w", o.ExecID, err)
	}
	if o.Spec == nil {
		return m.refuse(ctx, o.ContainerID, errdefs.InvalidArgument("exec %s: no process", o.ExecID))
	}
	return m.do(ctx, o.ContainerID, "Exec", &taskapi.ExecProcessRequest{
		ID:       o.ContainerID,
		ExecID:   o.ExecID,
		Stdin:    o.IO.Stdin,
		Stdout:   o.IO.Stdout,
		Stderr:   o.IO.Stderr,
		Terminal: o.IO.Terminal,
		Spec:     wire.Any(o.Spec),
	})
}

// ResizePty sets the size of a process's terminal, in cells.
func (m *Manager) ResizePty(ctx context.Context, id, execID string, width, height uint32) error {
	return m.do(ctx, id, "ResizePty", &taskapi.ResizePtyRequest{ID: id, ExecID: execID, Width: width, Height: height})
}

// CloseIO ends the stdin of a process. Of one that there is not runc's shim tells so without
// a class.
func (m *Manager) CloseIO(ctx context.Context, id, execID string) error {
	err := m.do(ctx, id, "CloseIO", &taskapi.CloseIORequest{ID: id, ExecID: execID, Stdin: true})
	if err != nil && execID != "" && errdefs.Class(err) == nil {
		if _, gone := m.Get(ctx, id, execID); errdefs.IsNotFound(gone) {
			return gone
		}
	}
	return err
}

// Pause freezes every process of the task.
func (m *Manager) Pause(ctx context.Context, id string) error {
	return m.do(ctx, id, "Pause", &taskapi.PauseRequest{ID: id})
}

// Resume takes Pause back.
func (m *Manager) Resume(ctx context.Context, id string) error {
	return m.do(ctx, id, "Resume", &taskapi.ResumeRequest{ID: id})
}

// Update changes the resources of the task.
func (m *Manager) Update(ctx context.Context, id string, resources typeurl.Any, annotations map[string]string) error {
	if resources == nil {
		return m.refuse(ctx, id, errdefs.InvalidArgument("update of task %s: no resources", id))
	}
	return m.do(ctx, id, "Update", &taskapi.UpdateTaskRequest{
		ID: id, Resources: wire.Any(resources), Annotations: annotations})
}

// Checkpoint dumps the task to the directory path.
func (m *Manager) Checkpoint(ctx context.Context, id, path string, options typeurl.Any) error {
	s, err := m.get(ctx, id)
	if err != nil {
		return err
	}
	return s.call(ctx, dumpTimeout, "Checkpoint", &taskapi.CheckpointTaskRequest{
		ID: id, Path: path, Options: wire.Any(options)}, &emptypb.Empty{})
}

// Pids lists the processes of the task.
func (m *Manager) Pids(ctx context.Context, id string) ([]task.Process, error) {
	s, err := m.get(ctx, id)
	if err != nil {
		return nil, err
	}
	var resp taskapi.PidsResponse
	if err := s.look(ctx, "Pids", &taskapi.PidsRequest{ID: id}, &resp); err != nil {
		return nil, err
	}
	out := make([]task.Process, len(resp.GetProcesses()))
	for i, p := range resp.GetProcesses() {
		out[i].PID = p.GetPid()
		if info := p.GetInfo(); info != nil { // a nil message in the interface would not be nil
			out[i].Info = info
		}
	}
	return out, nil
}

// Metrics answers the task's cgroup figures.
func (m *Manager) Metrics(ctx context.Context, id string) (typeurl.Any, error) {
	s, err := m.get(ctx, id)
	if err != nil {
		return nil, err
	}
	var resp taskapi.StatsResponse
	if err := s.look(ctx, "Stats", &taskapi.StatsRequest{ID: id}, &resp); err != nil {
		return nil, err
	}
	if resp.GetStats() == nil {
		return nil, errdefs.NotFound("no metrics of task %s", id)
	}
	return resp.GetStats(), nil
}

// look is ask with the usual deadline; a shim that is gone is NotFound.
func (s *shim) look(ctx context.Context, method string, req, resp any) error {
	err := s.ask(ctx, callTimeout, method, req, resp)
	if errors.Is(err, errGone) {
		return errdefs.NotFound("task %s not found", s.id)
	}
	return err
}

// Wait blocks until the process has ended, over lost connections and the death of
// the shim too.
func (m *Manager) Wait(ctx context.Context, id, execID string) (task.Exit, error) {
	s, err := m.get(ctx, id)
	if err != nil {
		return task.Exit{}, err
	}
	var resp taskapi.WaitResponse
	err = s.ask(ctx, 0, "Wait", &taskapi.WaitRequest{ID: id, ExecID: execID}, &resp)
	if errors.Is(err, errGone) {
		return s.exitOf(execID), nil
	}
	if err != nil {
		return task.Exit{}, err
	}
	e := exitFromProto(0, resp.GetExitStatus(), resp.GetExitedAt())
	if execID == "" {
		e.PID = s.initPID()
	}
	return e, nil
}

// Delete forgets a process that has ended. With the init the shim and the bundle
// go; of several at once one does the work and the others find nothing.
func (m *Manager) Delete(ctx context.Context, id, execID string) (task.Exit, error) {
	s, err := m.get(ctx, id)
	if err != nil {
		return task.Exit{}, err
	}
	if execID != "" {
		return s.delete(ctx, execID)
	}
	select {
	case <-s.deleting:
		defer func() { s.deleting <- struct{}{} }()
	case <-ctx.Done():
		return task.Exit{}, ctx.Err()
	}
	if m.find(s.key) != s {
		return task.Exit{}, errdefs.NotFound("task %s not found", id)
	}
	return m.deleteTask(ctx, s)
}

func (m *Manager) deleteTask(ctx context.Context, s *shim) (task.Exit, error) {
	l := s.link.Load()
	e, err := s.delete(ctx, "")
	switch {
	case err == nil:
	case errors.Is(err, errClosed), s.isGone():
		return s.afterDeath(ctx, l, err)
	case errdefs.IsNotFound(err): // the shim has forgotten it: an earlier Delete got as far
		e = s.exitOf("")
	default:
		return task.Exit{}, fmt.Errorf("failed to delete task: %w", err)
	}
	if !s.claim() { // it died just now, and is being buried
		return e, s.waitBuried(ctx)
	}
	failpoint.Hit("libctr/task.delete.deleted")
	if s.boot.OneTask { // it ends when we leave
		m.seeOff(s)
	} else {
		m.shutdown(ctx, s)
	}
	failpoint.Hit("libctr/task.delete.shutdown")
	m.forget(ctx, s, e)
	return e, nil
}

// delete makes the shim forget one process.
func (s *shim) delete(ctx context.Context, execID string) (task.Exit, error) {
	var resp taskapi.DeleteResponse
	if err := s.call(ctx, deleteTimeout, "Delete", &taskapi.DeleteRequest{ID: s.id, ExecID: execID}, &resp); err != nil {
		return task.Exit{}, err
	}
	return exitFromProto(resp.GetPid(), resp.GetExitStatus(), resp.GetExitedAt()), nil
}

// afterDeath answers a Delete under which the connection was lost: with the exit
// once nothing of the task is left, or with err when the shim lives.
func (s *shim) afterDeath(ctx context.Context, l *link, err error) (task.Exit, error) {
	if gone, waitErr := s.settled(ctx, l); waitErr != nil {
		return task.Exit{}, waitErr
	} else if !gone {
		return task.Exit{}, err
	}
	return s.exitOf(""), s.waitBuried(ctx)
}

func (s *shim) waitBuried(ctx context.Context) error {
	select {
	case <-s.buried:
		return nil
	case <-s.stopping:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forget drops a task whose shim has deleted it. What is left of it is removed
// even when the caller has gone.
func (m *Manager) forget(ctx context.Context, s *shim, e task.Exit) {
	s.ended(e)
	s.leave()
	m.warnIf(m.deactivate(context.WithoutCancel(ctx), s.bundle), "deactivate mounts of a deleted task", s.bundle)
	hidden, err := s.bundle.hide()
	if err != nil {
		s.log.ErrorContext(ctx, "remove bundle of a deleted task", "err", err) // the next start removes it
	}
	if hidden != "" {
		m.background(func() { m.warnIf(m.trash.empty(hidden), "remove bundle of a deleted task", s.bundle) })
	}
	m.drop(s.key)
	close(s.gone)
	close(s.buried)
}
