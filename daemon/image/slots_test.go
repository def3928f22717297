package image

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		var in []int
		enter := func(ctx context.Context, n int) (left <-chan error) {
			out := make(chan error, 1)
			go func() {
				err := s.acquire(ctx)
				if err == nil {
					in = append(in, n)
				}
				out <- err
			}()
			synctest.Wait()
			return out
		}
		want := func(n int) {
			t.Helper()
			if synctest.Wait(); len(in) != n {
				t.Fatalf("%v are in, want %d", in, n)
			}
			for i, v := range in {
				if v != i {
					t.Fatalf("not in the order in which they came: %v", in)
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		enter(t.Context(), 0)
		quits := enter(ctx, 99)
		enter(t.Context(), 1)
		enter(t.Context(), 2)
		enter(t.Context(), 3)
		want(1)
		cancel()
		if err := <-quits; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		want(1)
		s.resize(2)
		want(2)
		s.resize(1)
		s.release()
		want(2) // one still runs, and one is allowed
		s.release()
		want(3)
		s.resize(5)
		want(4)
		enter(t.Context(), 4)
		want(5)
	})
}
