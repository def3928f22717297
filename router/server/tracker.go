package server

import (
	"context"
	"sync"
	"time"
)

// tracker counts the handlers under way, and notices when for a while none began or ended.
type tracker struct {
	quiet func()        // called on a goroutine of its own; nil for nobody
	after time.Duration // the while: after it, and before twice of it, quiet is called

	mu    sync.Mutex
	n     int           // guarded by mu
	idle  chan struct{} // guarded by mu; closed when n falls to 0, nil when nobody waits
	moved bool          // guarded by mu; something happened since the timer was set
	timer *time.Timer   // guarded by mu; nil when quiet was called and nothing happened since
}

// add counts one and returns what takes it off again.
func (t *tracker) add() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	t.stir()
	return t.done
}

// stir puts quiet off. It reads no clock: it is part of every request.
func (t *tracker) stir() {
	t.moved = true
	if t.timer == nil && t.quiet != nil {
		t.timer = time.AfterFunc(t.after, t.look)
	}
}

func (t *tracker) look() {
	t.mu.Lock()
	if t.moved {
		t.moved = false
		t.timer.Reset(t.after)
		t.mu.Unlock()
		return
	}
	t.timer = nil
	t.mu.Unlock()
	t.quiet()
}

func (t *tracker) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	t.stir()
	if t.n == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// wait returns when no handler is under way, or with ctx's error.
func (t *tracker) wait(ctx context.Context) error {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
