package memory

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		q := NewQuiet(time.Second, func() { calls.Add(1) })
		time.Sleep(time.Minute)
		if n := calls.Load(); n != 0 {
			t.Fatalf("called %d times before anything stirred", n)
		}
		for range 20 {
			q.Stir()
			time.Sleep(time.Second / 2)
		}
		if n := calls.Load(); n != 0 {
			t.Fatalf("called %d times while it stirs", n)
		}
		time.Sleep(2 * time.Second)
		if n := calls.Load(); n != 1 {
			t.Fatalf("called %d times when it was quiet, not once", n)
		}
		time.Sleep(time.Minute)
		if n := calls.Load(); n != 1 {
			t.Fatalf("called %d times for one stir", n)
		}
		q.Stir()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := calls.Load(); n != 2 {
			t.Fatalf("called %d times after a second stir", n)
		}
	})
}
