package forward

import (
	"log/slog"
	"sync"
	"time"
)

// losses are entries that will not be sent.
type losses struct {
	rotated  uint64 // that were rotated away before they were sent
	unknown  bool   // there may be more: nobody has counted them
	from, to time.Time
	refused  int // that the target can't take
	why      string
}

func (l *losses) any() bool { return l.rotated > 0 || l.unknown || l.refused > 0 }

// add adds what has been lost later.
func (l *losses) add(m losses) {
	if l.rotated == 0 && !l.unknown {
		l.from = m.from
	}
	if m.rotated > 0 || m.unknown {
		l.to = m.to
	}
	l.rotated, l.unknown = l.rotated+m.rotated, l.unknown || m.unknown
	l.refused += m.refused
	if m.refused > 0 {
		l.why = m.why
	}
}

// crossing is what is told before the first entry of another file; see logger.Taker.
type crossing struct {
	first        uint64
	counted, gap bool
}

// cross takes note of one until the entry comes.
func (f *forwarder) cross(first uint64, counted, gap bool) {
	f.next = &crossing{first, counted, gap}
}

// cross counts what lies between the entry before and the next.
func (p *progress) cross(c crossing) {
	var l losses
	if reached := max(p.index, p.reached); c.counted && c.first > reached {
		l.rotated = c.first - reached
	}
	l.unknown = c.gap && !c.counted
	if c.counted {
		p.index = c.first
	}
	if l.any() {
		l.from = p.last
		p.lost.add(l)
		p.open = true
	}
}

// teller logs losses: the first at once, further ones together.
type teller struct {
	log *slog.Logger

	mu    sync.Mutex
	lost  losses      // guarded by mu; not told yet
	last  time.Time   // guarded by mu
	timer *time.Timer // guarded by mu; nil unless it is to tell
}

// tellEvery is how often at most losses are told.
const tellEvery = 10 * time.Second

func (t *teller) add(l losses) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost.add(l)
	switch wait := tellEvery - time.Since(t.last); {
	case t.timer != nil:
	case wait > 0:
		t.timer = time.AfterFunc(wait, t.flush)
	default:
		t.tell()
	}
}

// flush tells what has not been told.
func (t *teller) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	t.tell()
}

// tell is called under mu.
func (t *teller) tell() {
	l := &t.lost
	if !l.any() {
		return
	}
	if l.rotated > 0 || l.unknown {
		t.log.Warn("entries of a log were rotated away before they could be forwarded",
			"entries", l.rotated, "perhaps-more", l.unknown, "after", l.from, "before", l.to)
	}
	if l.refused > 0 {
		t.log.Warn("entries of a log cannot be forwarded", "entries", l.refused, "err", l.why)
	}
	t.lost, t.last = losses{}, time.Now()
}
