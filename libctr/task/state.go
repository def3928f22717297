package task

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/task"
)

// stuckTimeout is what a shim gets that did not answer the last time.
const stuckTimeout = 200 * time.Millisecond

// Get asks the shim for a process's state. A shim that does not answer within 2 s,
// or at once when it did not the last time, gives StatusUnknown. NotFound of a task that
// was deleted just now comes when its shim has let go of the root.
func (m *Manager) Get(ctx context.Context, id, execID string) (task.State, error) {
	s, err := m.get(ctx, id)
	if err != nil {
		m.awaitLeft(ctx, key{reqctx.Namespace(ctx), id})
		return task.State{}, err
	}
	return s.state(ctx, execID)
}

// List asks every shim of the namespace at once; one that is being deleted is
// left out. Sorted by container.
func (m *Manager) List(ctx context.Context) ([]task.State, error) {
	shims, err := m.inNamespace(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]*task.State, len(shims))
	var wg sync.WaitGroup
	for i, s := range shims {
		wg.Go(func() {
			if st, err := s.state(ctx, ""); err == nil {
				states[i] = &st
			} else if !errdefs.IsNotFound(err) {
				s.log.WarnContext(ctx, "state of task", "err", err)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []task.State
	for _, st := range states {
		if st != nil {
			out = append(out, *st)
		}
	}
	slices.SortFunc(out, func(a, b task.State) int { return strings.Compare(a.ContainerID, b.ContainerID) })
	return out, nil
}

func (s *shim) state(ctx context.Context, execID string) (task.State, error) {
	if s.mute.Load() { // it will be known when it speaks
		return s.unknownState(execID), nil
	}
	timeout := s.limit
	if s.stuck.Load() {
		timeout = min(timeout, stuckTimeout)
	}
	var resp taskapi.StateResponse
	err := s.ask(ctx, timeout, "State", &taskapi.StateRequest{ID: s.id, ExecID: execID}, &resp)
	switch {
	case err == nil:
		s.stuck.Store(false)
		return stateFromProto(s.id, execID, &resp), nil
	case errors.Is(err, errGone):
		return s.stoppedState(execID), nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		s.stuck.Store(true)
		s.log.WarnContext(ctx, "shim does not answer", "exec", execID)
		return s.unknownState(execID), nil
	}
	return task.State{}, err
}

func (s *shim) unknownState(execID string) task.State {
	st := task.State{ContainerID: s.id, ExecID: execID, Status: task.StatusUnknown}
	if execID == "" {
		st.PID = s.initPID()
	}
	return st
}

// stoppedState is that of a process whose shim is dead.
func (s *shim) stoppedState(execID string) task.State {
	e := s.exitOf(execID)
	return task.State{ContainerID: s.id, ExecID: execID, PID: e.PID,
		Status: task.StatusStopped, ExitStatus: e.Code, ExitedAt: e.At}
}

func stateFromProto(id, execID string, r *taskapi.StateResponse) task.State {
	e := exitFromProto(r.GetPid(), r.GetExitStatus(), r.GetExitedAt())
	return task.State{
		ContainerID: id,
		ExecID:      execID,
		PID:         r.GetPid(),
		Status:      task.Status(r.GetStatus()),
		IO: task.IO{
			Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal()},
		ExitStatus: e.Code,
		ExitedAt:   e.At,
	}
}

// IDs names the tasks of the namespace without asking their shims. Sorted.
func (m *Manager) IDs(ctx context.Context) ([]string, error) {
	shims, err := m.inNamespace(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(shims))
	for i, s := range shims {
		ids[i] = s.id
	}
	slices.Sort(ids)
	return ids, nil
}
