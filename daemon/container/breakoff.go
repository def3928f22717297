package container

import (
	"context"

	"gantry/api/reqctx"
)

// breakable is the context of a start that a forced removal and the daemon's end break
// off: a runtime or a hook may never come to an end. settle ends that, and tells a start
// that was broken off why.
func (s *Service) breakable(ctx context.Context, e *entry) (_ context.Context, settle func(error) error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(reqctx.ErrGoingDown) })
	e.locked(func() { e.breakOff = cancel })
	return ctx, func(err error) error {
		e.locked(func() { e.breakOff = nil })
		stop()
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		cancel(nil)
		return err
	}
}

// BreakStarts ends every start under way, since the daemon goes down.
func (s *Service) BreakStarts() {
	for _, e := range s.all() {
		e.breakStart(reqctx.ErrGoingDown)
	}
}

// breakStart ends a start under way, which then takes back what it has done. The lane is
// free when it has.
func (e *entry) breakStart(reason error) {
	e.locked(func() {
		if e.breakOff != nil {
			e.breakOff(reason)
		}
	})
}
