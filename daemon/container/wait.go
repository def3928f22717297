package container

import (
	"context"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
)

// Wait returns at once; the channel yields one result when the condition is met, with
// the exit code and the container's last error. When ctx ends before, it yields -1.
func (s *Service) Wait(ctx context.Context, ref string, cond containertypes.WaitCondition) (<-chan containertypes.WaitResponse, error) {
	e, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	switch cond {
	case "", containertypes.WaitConditionNotRunning, containertypes.WaitConditionNextExit, containertypes.WaitConditionRemoved:
	default:
		return nil, errdefs.InvalidArgument("invalid condition: %q", string(cond))
	}
	return e.wait(ctx, cond), nil
}

func (e *entry) wait(ctx context.Context, cond containertypes.WaitCondition) <-chan containertypes.WaitResponse {
	woken := make(chan containertypes.WaitResponse, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.view.Load()
	switch {
	case e.gone, (cond == "" || cond == containertypes.WaitConditionNotRunning) && !now.Status.Up():
		woken <- now.waitResponse()
		return woken
	case cond == containertypes.WaitConditionRemoved:
		e.goneWaiters = append(e.goneWaiters, woken)
	default:
		e.stopWaiters = append(e.stopWaiters, woken)
	}
	result := make(chan containertypes.WaitResponse, 1)
	go func() { // ends with the wake or ctx
		select {
		case r := <-woken:
			result <- r
		case <-ctx.Done():
			e.forget(woken)
			result <- containertypes.WaitResponse{
				StatusCode: -1, Error: &containertypes.WaitExitError{Message: ctx.Err().Error()},
			}
		}
	}()
	return result
}

// forget drops a waiter that nobody listens to.
func (e *entry) forget(w chan containertypes.WaitResponse) {
	drop := func(list []chan containertypes.WaitResponse) []chan containertypes.WaitResponse {
		for i, c := range list {
			if c == w {
				return append(list[:i:i], list[i+1:]...)
			}
		}
		return list
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopWaiters, e.goneWaiters = drop(e.stopWaiters), drop(e.goneWaiters)
}

// wake tells those who wait for an exit, or with gone everybody.
func (e *entry) wake(gone bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.view.Load().waitResponse()
	e.stopWaiters = tell(e.stopWaiters, r)
	if gone {
		e.gone = true
		e.goneWaiters = tell(e.goneWaiters, r)
	}
}

// wakeFailed tells those who wait for a removal that it has failed, by the container's
// error; the next one may succeed. Who waits for an exit is told too.
func (e *entry) wakeFailed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.view.Load().waitResponse()
	e.stopWaiters, e.goneWaiters = tell(e.stopWaiters, r), tell(e.goneWaiters, r)
}

// tell answers everybody in waiters, each of whom has room for it; nobody waits then.
func tell(waiters []chan containertypes.WaitResponse, r containertypes.WaitResponse) []chan containertypes.WaitResponse {
	for _, w := range waiters {
		w <- r
	}
	return nil
}

// wakeIfDown wakes who waits for an exit of a container that a failed restart has ended.
func (e *entry) wakeIfDown() {
	if e.snapshot().Status == Exited {
		e.wake(false)
	}
}

func (s *Snapshot) waitResponse() containertypes.WaitResponse {
	r := containertypes.WaitResponse{StatusCode: int64(s.ExitCode)}
	if s.Error != "" {
		r.Error = &containertypes.WaitExitError{Message: s.Error}
	}
	return r
}

// down waits until the container does not run and its exit has been told; false when
// ctx ended before.
func (e *entry) down(ctx context.Context) bool {
	r := <-e.wait(ctx, containertypes.WaitConditionNotRunning)
	if r.StatusCode == -1 && ctx.Err() != nil {
		return false
	}
	e.kills.RLock()
	defer e.kills.RUnlock()
	return true
}
