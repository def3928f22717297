package image

import (
	"context"
	"sync"
)

// slots bounds how much runs at the same time. The bound may change while it is used:
// what runs goes on, what waits is let in first come, first served. Safe for concurrent use.
type slots struct {
	mu    sync.Mutex
	limit int             // guarded by mu
	used  int             // guarded by mu
	queue []chan struct{} // guarded by mu; closed to let one in, which then counts as used
}

func newSlots(limit int) *slots { return &slots{limit: limit} }

// acquire waits for a slot; release gives it back.
func (s *slots) acquire(ctx context.Context) error {
	s.mu.Lock()
	if s.used < s.limit && len(s.queue) == 0 {
		s.used++
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.abandon(turn)
		return ctx.Err()
	}
}

// abandon leaves the queue, or gives back the slot that came at the same moment.
func (s *slots) abandon(turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.queue {
		if c == turn {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
			return
		}
	}
	s.used--
	s.admit()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.admit()
}

func (s *slots) resize(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.admit()
}

// admit lets in as many as there is room for. Call with mu held.
func (s *slots) admit() {
	for s.used < s.limit && len(s.queue) > 0 {
		close(s.queue[0])
		s.queue = s.queue[1:]
		s.used++
	}
}
