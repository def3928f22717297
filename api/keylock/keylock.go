// Package keylock locks by name: one holder per key, and a wait ends with its context.
package keylock

import (
	"context"
	"sync"
)

// Locks are mutexes by key. The zero value is ready. Safe for concurrent use.
type Locks struct {
	mu sync.Mutex
	by map[string]*holder // guarded by mu
}

type holder struct {
	token chan struct{}
	users int // guarded by Locks.mu; who holds or waits
}

// Lock returns the function that unlocks, to be called once, or ctx's error.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	h := l.enter(key)
	select {
	case h.token <- struct{}{}:
		return func() { <-h.token; l.leave(key, h) }, nil
	case <-ctx.Done():
		l.leave(key, h)
		return nil, ctx.Err()
	}
}

func (l *Locks) enter(key string) *holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]*holder{}
	}
	h := l.by[key]
	if h == nil {
		h = &holder{token: make(chan struct{}, 1)}
		l.by[key] = h
	}
	h.users++
	return h
}

func (l *Locks) leave(key string, h *holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(l.by, key)
	}
}
