package image

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/docker/docker/pkg/jsonmessage"

	apiimage "gantry/api/image"
)

// progress writes Docker's progress objects in one goroutine, so that a client that
// reads slowly holds up its own request only: counters are kept, the latest for each
// blob, and written at intervals; everything else is written in order. After the first
// error of the receiver, which means that the client has gone, it is silent. Safe for
// concurrent use until close.
type progress struct {
	out    apiimage.Progress
	states chan jsonmessage.JSONMessage
	done   chan struct{}
	gone   error // set before done is closed

	mu     sync.Mutex
	counts map[string]jsonmessage.JSONMessage // guarded by mu; not yet written
}

// every is how often counters are written.
const every = 100 * time.Millisecond

// newProgress starts the goroutine; close ends it.
func newProgress(out apiimage.Progress) *progress {
	p := &progress{out: out, states: make(chan jsonmessage.JSONMessage), done: make(chan struct{}),
		counts: map[string]jsonmessage.JSONMessage{}}
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case m, more := <-p.states:
			if !more {
				return
			}
			p.dropCount(m.ID)
			p.write(m)
		case <-tick.C:
			for _, m := range p.takeCounts() {
				p.write(m)
			}
		}
	}
}

func (p *progress) write(m jsonmessage.JSONMessage) {
	if p.gone == nil {
		p.gone = p.out(m)
	}
}

func (p *progress) dropCount(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.counts, id)
}

func (p *progress) takeCounts() map[string]jsonmessage.JSONMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.counts
	p.counts = map[string]jsonmessage.JSONMessage{}
	return taken
}

// close writes what is left and returns the receiver's error. Counters are dropped: a
// state has come after each of them, or the operation has failed.
func (p *progress) close() error {
	close(p.states)
	<-p.done
	return p.gone
}

// message is a line of its own.
func (p *progress) message(id, text string) {
	p.states <- jsonmessage.JSONMessage{ID: id, Status: text}
}

// state says where a blob is, without a counter.
func (p *progress) state(id, action string) {
	p.states <- jsonmessage.JSONMessage{ID: id, Status: action, Progress: &jsonmessage.JSONProgress{}}
}

// aux is for programs, not for people.
func (p *progress) aux(v json.RawMessage) {
	p.states <- jsonmessage.JSONMessage{Aux: &v}
}

// count shows how far a blob has come. It never blocks.
func (p *progress) count(id, action string, current, total int64, units string) {
	c := &jsonmessage.JSONProgress{Current: current, Total: total, Units: units}
	m := jsonmessage.JSONMessage{ID: id, Status: action, Progress: c, ProgressMessage: c.String()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[id] = m
}
