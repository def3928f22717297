package probe

import (
	"context"
	"sync"
	"time"

	"gantry/daemon/health"
)

// watch is the checking of one container, from its start or the end of a pause on.
type watch struct {
	s       *Service
	id      string
	check   health.Check
	started time.Time // the container's run

	ctx    context.Context // of the watch
	cancel context.CancelFunc

	mu     sync.Mutex
	timer  *time.Timer // guarded by mu
	prober Prober      // guarded by mu; nil before the first check and after a loss
	over   bool        // guarded by mu
}

// arm has the next check made after d.
func (w *watch) arm(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case w.timer == nil:
		w.timer = time.AfterFunc(d, w.due)
	default:
		w.timer.Reset(d)
	}
}

// due makes a check, in a goroutine of the timer's. There is one at a time, since the
// timer is armed again at the end.
func (w *watch) due() {
	if !w.enter() {
		return
	}
	defer w.s.work.Done()
	h := w.s.containers.Checked(w.id, w.check, w.run(), func() bool { return w.ctx.Err() == nil })
	w.arm(w.check.Wait(h, w.started, time.Now()))
}

// enter counts a check among the service's work unless the watch is over.
func (w *watch) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.s.work.Add(1)
	}
	return !w.over
}

// stop ends the watch and its check; it does not wait.
func (w *watch) stop() {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.drop()
}

// keep holds a prober for the checks to come; false when the watch is over.
func (w *watch) keep(p Prober) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		p.Close()
		return false
	}
	w.prober = p
	return true
}

// held is the prober that an earlier check has opened.
func (w *watch) held() Prober {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prober
}

// lose gives up a prober that is of no more use.
func (w *watch) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop()
}

// drop: the caller holds mu.
func (w *watch) drop() {
	if w.prober != nil {
		w.prober.Close()
		w.prober = nil
	}
}
