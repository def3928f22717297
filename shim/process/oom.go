package process

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"gantry/api/errdefs"
)

// oomWatch tells when a container runs out of memory. It tells at most once per
// event, and once more at the end when a kill was not told.
type oomWatch struct {
	count func() (uint64, error)
	tell  func()
	end   func()
	once  sync.Once // stop
	quit  chan struct{}
	done  sync.WaitGroup

	mu   sync.Mutex
	told uint64 // kills that have been told; guarded by mu
}

func watchOOM(c Container, tell func(), log *slog.Logger) *oomWatch {
	w := &oomWatch{count: c.OOMKilled, tell: tell, end: func() {}, quit: make(chan struct{})}
	events, stop, err := c.OOM()
	if err != nil {
		if !errors.Is(err, errdefs.ErrNotImplemented) {
			log.Warn("watch for out of memory", "err", err)
		}
		return w
	}
	w.end = stop
	w.done.Go(func() { // ends when stop closes events
		for range events {
			for range lateKills {
				if w.look(true) || w.stopped(lateKill) {
					break
				}
			}
		}
	})
	return w
}

// look tells when more processes have been killed than were told. Where kills
// can't be counted, the kernel's word is taken.
func (w *oomWatch) look(event bool) (told bool) {
	n, err := w.count()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && n > w.told || err != nil && event {
		w.told = n
		w.tell()
		return true
	}
	return false
}

// Memory runs out before somebody is killed for it.
const (
	lateKill  = 50 * time.Millisecond
	lateKills = 10
)

func (w *oomWatch) stopped(within time.Duration) bool {
	select {
	case <-w.quit:
		return true
	case <-time.After(within):
		return false
	}
}

// last looks once more; it comes before the init's exit is told.
func (w *oomWatch) last() { w.look(false) }

// stop may be called again: a delete that fails is tried again.
func (w *oomWatch) stop() {
	w.once.Do(func() {
		close(w.quit)
		w.end()
	})
	w.done.Wait()
}
