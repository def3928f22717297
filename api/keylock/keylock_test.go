package keylock_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"gantry/api/keylock"
)

func TestOneHolderPerKey(t *testing.T) {
	var l keylock.Locks
	var wg sync.WaitGroup
	n := 0
	for range 50 {
		wg.Go(func() {
			unlock, err := l.Lock(context.Background(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			n++ // the race detector tells when two are here
			unlock()
		})
	}
	wg.Wait()
	if n != 50 {
		t.Errorf("counted %d", n)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	var l keylock.Locks
	unlock, err := l.Lock(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("second holder: %v", err)
	}
	other, err := l.Lock(context.Background(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	unlock()
	if unlock, err = l.Lock(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	unlock()
}
