package undo_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gantry/api/undo"
)

func TestRunsInReverseAndSurvivesCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cause := errors.New("no space")
	var order []string
	err := func() (err error) {
		var u undo.Stack
		defer u.OnError(ctx, time.Minute, &err)
		for _, name := range []string{"one", "two", "three"} {
			u.Add("undo "+name, func(ctx context.Context) error {
				order = append(order, name)
				if name == "two" {
					return errors.New("busy")
				}
				return ctx.Err()
			})
		}
		cancel()
		return cause
	}()
	if want := []string{"three", "two", "one"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if !errors.Is(err, cause) || err.Error() != "no space" {
		t.Errorf("got %q", err)
	}
	if got := undo.Failures(err); len(got) != 1 || got[0].Error() != "undo two: busy" {
		t.Errorf("failures %v", got)
	}
}

func TestNothingOnSuccess(t *testing.T) {
	err := func() (err error) {
		var u undo.Stack
		defer u.OnError(context.Background(), time.Minute, &err)
		u.Add("never", func(context.Context) error { t.Error("ran"); return nil })
		return nil
	}()
	if err != nil {
		t.Error(err)
	}
}
