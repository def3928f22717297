package metadata

import (
	"context"
	"sync"
)

// lanes lets one operation at a time pass per key, and keeps nothing for idle keys.
// The zero value is ready.
type lanes struct {
	mu   sync.Mutex
	held map[string]*lane // guarded by mu
}

type lane struct {
	turn chan struct{} // one token: who has it passes
	refs int           // holders and waiters; guarded by lanes.mu
}

// enter waits for the key's lane; leave must be called once when err is nil.
func (l *lanes) enter(ctx context.Context, key string) (leave func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[string]*lane)
	}
	ln := l.held[key]
	if ln == nil {
		ln = &lane{turn: make(chan struct{}, 1)}
		l.held[key] = ln
	}
	ln.refs++
	l.mu.Unlock()

	select {
	case ln.turn <- struct{}{}:
		return func() { <-ln.turn; l.release(key, ln) }, nil
	case <-ctx.Done():
		l.release(key, ln)
		return nil, ctx.Err()
	}
}

func (l *lanes) release(key string, ln *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.refs--; ln.refs == 0 {
		delete(l.held, key)
	}
}
