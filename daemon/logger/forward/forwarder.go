package forward

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"gantry/api/failpoint"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/link"
)

// forwarder is at one container's log. Its goroutine owns all but runs, done and the
// channels.
type forwarder struct {
	c      Container
	log    *slog.Logger
	ctx    context.Context // of reading
	stop   context.CancelFunc
	life   context.Context    // of what goes to the target
	cancel context.CancelFunc // of both
	done   chan struct{}      // closed when the goroutine has ended
	again  chan struct{}      // has one: do not wait any longer
	last   chan struct{}      // closed: a failure is final
	runs   int                // guarded by the service's mu; of the container, that have been told

	target *Target
	state  *stateFile
	at     progress // read so far, and given to the batch
	sent   progress // of that
	safe   progress // known to have arrived; what is saved
	older  progress // the same a while ago, at
	aged   time.Time
	batch  *batch // nil when empty
	next   *crossing

	settled time.Time // last
	loose   bool      // something has been sent since
	unsaved bool      // the last saving has failed
	losses  teller
	err     error // of the last pass; valid after done
	failed  int   // passes in a row
}

func newForwarder(ctx, life context.Context, c Container, t *Target, log *slog.Logger) *forwarder {
	f := &forwarder{
		c: c, log: log, target: t, done: make(chan struct{}),
		again: make(chan struct{}, 1), last: make(chan struct{}), runs: 1, losses: teller{log: log},
	}
	f.life, f.cancel = context.WithCancel(life)
	f.ctx, f.stop = context.WithCancel(ctx)
	context.AfterFunc(f.life, f.stop)
	return f
}

// poke has the target tried at once.
func (f *forwarder) poke() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// hurry has the rest sent now or never. It is called once.
func (f *forwarder) hurry() { close(f.last) }

// run forwards until all is sent and over agrees, or until ctx ends.
func (f *forwarder) run(s *Service) {
	defer close(f.done)
	defer f.cancel()
	defer f.close()
	for {
		runs := s.runs(f)
		f.err = f.pass()
		switch {
		case f.ctx.Err() != nil:
			return
		case f.err != nil:
			f.fail()
			if !f.pause() {
				return
			}
		case s.over(f, runs):
			return
		}
	}
}

// pass forwards from the last safe position to the log's end, which while the container
// runs is the container's.
func (f *forwarder) pass() error {
	if err := f.open(); err != nil {
		return err
	}
	reached := max(f.at.reached, f.safe.index)
	f.at, f.next = f.safe, nil
	f.at.reached = reached
	f.sent = f.at
	f.dropBatch()
	err := f.read(f.ctx)
	if err == nil || f.ctx.Err() != nil {
		return err
	}
	f.target.Close()
	f.loose = false
	if link.Reset(err) {
		f.safe = f.older
	}
	return err
}

// open makes what the first pass finds missing.
func (f *forwarder) open() (err error) {
	if f.state == nil {
		if f.state, f.safe, err = openState(f.c.State); err != nil {
			return err
		}
		f.older = f.safe
	}
	if f.target == nil {
		f.target, err = open(f.c)
	}
	return err
}

// close ends the forwarder's work: what has been sent may still be found to have arrived.
func (f *forwarder) close() {
	f.dropBatch()
	f.at = f.sent
	if f.target != nil {
		if f.loose {
			f.settle() //nolint:errcheck // it is sent again then
		}
		f.target.Close()
	}
	f.losses.flush()
	if f.state != nil {
		f.state.Close()
	}
}

// fail tells of the first failure in a row.
func (f *forwarder) fail() {
	if f.failed == 0 {
		f.log.Warn("cannot forward log, to be tried again", "err", f.err)
	}
	f.failed++
}

// pause waits before the next pass; false when there is to be none.
func (f *forwarder) pause() bool {
	select {
	case <-f.last: // that pass was the last
		return false
	default:
	}
	var pace target.Pace
	if f.target != nil {
		pace = f.target.pace
	}
	wait := backOff(pace, f.failed-1)
	timer := time.NewTimer(wait + rand.N(wait/4+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.again:
	case <-f.last:
	case <-f.ctx.Done():
		return false
	}
	return true
}

const (
	firstWait = 100 * time.Millisecond
	maxWait   = 30 * time.Second
)

// backOff is the wait before the nth attempt, from 0, to reach a target again.
func backOff(p target.Pace, n int) time.Duration {
	first := p.First
	if first <= 0 {
		first = firstWait
	}
	wait := first
	for i := p.Tries; i < n && wait < maxWait; i++ {
		wait *= 2
	}
	return min(wait, max(maxWait, first))
}

// settleEvery is how often at least what is sent is made safe while more comes.
const settleEvery = 100 * time.Millisecond

// send hands the batch over.
func (f *forwarder) send() error {
	if f.batch == nil {
		return nil
	}
	for rest := f.batch.entries; len(rest) > 0; {
		err := f.target.Send(f.life, rest)
		r, refused := errors.AsType[*target.Refused](err)
		if err != nil && !refused {
			return err
		}
		if !refused {
			break
		}
		f.at.lost.add(losses{refused: 1, why: r.Err.Error()})
		rest = rest[r.Index+1:]
	}
	failpoint.Hit("daemon/logger/forward.send.sent")
	f.dropBatch()
	f.sent, f.loose = f.at, true
	if time.Since(f.settled) > settleEvery {
		return f.settle()
	}
	return nil
}

// settle waits until what has been sent, which is all that was read, has arrived, and
// remembers it.
func (f *forwarder) settle() error {
	if !f.loose {
		return nil
	}
	if err := f.target.Settle(f.life); err != nil {
		return err
	}
	if f.failed > 0 {
		f.log.Info("log is forwarded again", "attempts", f.failed)
		f.failed = 0
	}
	f.loose, f.settled = false, time.Now()
	if f.settled.Sub(f.aged) > aging {
		f.older, f.aged = f.safe, f.settled
	}
	if f.at.lost.any() {
		f.losses.add(f.at.lost)
		f.at.lost = losses{}
	}
	f.at.reached = max(f.at.reached, f.at.index)
	f.safe = f.at
	f.save()
	return nil
}

// save remembers what is safe on disk. Where that fails, as on a full one, forwarding goes
// on: it costs entries that are sent again, should the daemon end before it succeeds.
func (f *forwarder) save() {
	err := f.state.save(f.safe)
	if err != nil && !f.unsaved {
		f.log.Warn("cannot save position in log, to be tried again", "err", err)
	}
	f.unsaved = err != nil
}

// aging is how far at least the position lies back that a forwarder returns to when a
// connection is reset, by which its target's kernel says that it has thrown away
// something that it had acknowledged.
const aging = time.Second

// idle is called when nothing more has come: all that was taken is to arrive.
func (f *forwarder) idle() error {
	if err := f.send(); err != nil {
		return err
	}
	return f.settle()
}
