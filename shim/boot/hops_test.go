package boot_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/containerd/ttrpc"

	"gantry/api/shimwire"
)

// hops are the events of traced calls that came so far.
func (e *engine) hops() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, topic := range e.seen {
		if topic == shimwire.TopicHops {
			n++
		}
	}
	return n
}

// TestHops: a traced call is told of after its answer, one that is not sampled isn't.
// That others aren't is what every test sees that awaits events.
func TestHops(t *testing.T) {
	const trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-0"
	for _, c := range []struct {
		name, flag string
		want       int
	}{{"sampled", "1", 2}, {"not sampled", "0", 0}} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, "")
			k := e.newTask(t, nil, "true")
			plain := k.ctx
			k.ctx = ttrpc.WithMetadata(plain, ttrpc.MD{shimwire.Traceparent: {trace + c.flag}})
			k.create(nil)
			k.start("")
			k.ctx = plain
			k.wait("")
			k.remove()
			awaitDelete(t, k.ctx, e)
			if n := e.hops(); n != c.want {
				t.Errorf("%d events, want %d", n, c.want)
			}
		})
	}
}

// awaitDelete waits for the last event, which comes after those of the calls before.
func awaitDelete(t *testing.T, ctx context.Context, e *engine) {
	t.Helper()
	for {
		e.mu.Lock()
		over := slices.Contains(e.seen, "delete")
		e.mu.Unlock()
		if over {
			return
		}
		select {
		case <-e.more:
		case <-time.After(10 * time.Millisecond): // the token may have gone to another event
		case <-ctx.Done():
			t.Fatal("no delete event")
		}
	}
}
