// Package undo takes back what an operation acquired when a later step fails.
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Stack holds one undo per step that succeeded. The zero value is ready; not safe
// for concurrent use.
type Stack struct {
	steps []step
}

type step struct {
	name string
	run  func(context.Context) error
}

// Add registers the undo of a step that has just succeeded; name says what the
// undo does ("remove bundle").
func (s *Stack) Add(name string, run func(context.Context) error) {
	s.steps = append(s.steps, step{name, run})
}

// OnError runs every undo, last first, when *errp is set, under a context that
// keeps ctx's values but not its end, bounded by timeout. What an undo fails with
// is kept in *errp for Failures; its text, which is for the user, stays the
// same. Use it in a defer.
func (s *Stack) OnError(ctx context.Context, timeout time.Duration, errp *error) {
	if *errp == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].run(ctx); err != nil {
			*errp = failed{cause: *errp, undo: fmt.Errorf("%s: %w", s.steps[i].name, err)}
		}
	}
	s.steps = nil
}

// failed is an error whose undo failed too; text, class and chain are the cause's.
type failed struct{ cause, undo error }

func (f failed) Error() string { return f.cause.Error() }
func (f failed) Unwrap() error { return f.cause }

// Failures returns what the undos after err failed with, for the log.
func Failures(err error) []error {
	var out []error
	var f failed
	for errors.As(err, &f) {
		out = append(out, f.undo)
		err = f.cause
	}
	return out
}
