package memory

import (
	"sync/atomic"
	"time"
)

// Quiet calls a function when nothing has stirred for a while, once for each time that
// something did. Safe for concurrent use.
type Quiet struct {
	after   time.Duration
	do      func()
	stirred atomic.Bool // since the timer has looked
	armed   atomic.Bool // the timer runs
}

// NewQuiet returns a Quiet that calls do, on a goroutine of its own, when the while is
// over, or before twice of it is.
func NewQuiet(after time.Duration, do func()) *Quiet {
	return &Quiet{after: after, do: do}
}

// Stir puts quiet off. It is cheap enough for every call of a server.
func (q *Quiet) Stir() {
	if !q.stirred.Load() {
		q.stirred.Store(true)
	}
	q.arm()
}

func (q *Quiet) arm() {
	if q.armed.CompareAndSwap(false, true) {
		time.AfterFunc(q.after, q.look)
	}
}

func (q *Quiet) look() {
	stirred := q.stirred.Swap(false)
	q.armed.Store(false)
	if stirred || q.stirred.Load() { // the latter since the look
		q.arm()
		return
	}
	q.do()
}
