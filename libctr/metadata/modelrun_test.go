package metadata_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/need"
)

// seedVariable repeats one run of TestModel.
const seedVariable = "GANTRY_MODEL_SEED"

// TestModel has clients do anything at all at the same time, while the collector runs, and
// kills the process now and then. Nothing that was held all the time is ever lost, calls
// answer what they have to, and when all is quiet a collection leaves exactly what the
// records hold, in the records and in the backends.
func TestModel(t *testing.T) {
	need.Root(t, "makes snapshots")
	runs, rounds := 2, 30
	if os.Getenv("GANTRY_SOAK") == "1" {
		runs, rounds = 60, 400
	}
	first := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		runs = 1
	}
	for n := range runs {
		seed := first + uint64(n)
		t.Run(fmt.Sprintf("%s=%d", seedVariable, seed), func(t *testing.T) {
			t.Parallel()
			m := &modelRun{T: t, dir: t.TempDir(), believed: beliefs{}}
			m.author = author{rand.New(rand.NewPCG(seed, 1)), m.now}
			m.process = spawn(t, m.dir)
			defer func() { m.process.kill() }()
			for range rounds {
				m.round()
				if t.Failed() {
					t.Fatalf("the last calls:\n%s", strings.Join(m.history, "\n"))
				}
			}
		})
	}
}

// modelRun is a worker and what is believed of it.
type modelRun struct {
	*testing.T
	author   author
	dir      string
	process  *process
	offset   time.Duration
	believed beliefs
	history  []string
}

func (m *modelRun) now() time.Time { return time.Now().Add(m.offset) }

func (m *modelRun) note(format string, args ...any) {
	m.history = append(m.history, fmt.Sprintf(format, args...))
	m.history = m.history[max(0, len(m.history)-60):]
}

// round is a few batches, perhaps a crash or time that passes, and a look at everything.
func (m *modelRun) round() {
	for range 1 + m.author.IntN(5) {
		m.batch(m.author.batch(m.believed))
		if m.Failed() {
			return
		}
	}
	switch m.author.IntN(6) {
	case 0:
		m.crash(m.author.batch(m.believed))
	case 1:
		m.advance(time.Hour)
	}
	m.look()
}

func (m *modelRun) ask(r request) answer {
	m.Helper()
	err := m.process.send(r)
	var a answer
	if err == nil {
		a, err = m.process.receive()
	}
	if err != nil {
		m.Fatalf("the worker: %v\nthe last calls:\n%s", err, strings.Join(m.history, "\n"))
	}
	return a
}

func (m *modelRun) batch(calls []op) {
	a := m.ask(request{Batch: calls})
	held := m.during(calls).held(m.now(), true)
	m.believed.doubt(held) // what one call has let go may be collected before another comes
	for i, o := range calls {
		m.note("%+v: %s", o, a.Outcomes[i])
		m.believed = m.learn(o, a.Outcomes[i])
	}
	m.born(calls, a.Outcomes, held)
	after := m.believed.held(m.now(), true)
	maps.DeleteFunc(held, func(name string, _ bool) bool { return !after[name] })
	m.believed.doubt(held)
}

// during is what may be while the calls run: each may or may not have been done.
func (m *modelRun) during(calls []op) beliefs {
	b := m.believed.clone()
	for _, o := range calls {
		for _, w := range o.ways(b) {
			for name, s := range w.changes {
				b.add(name, s)
			}
		}
	}
	return b
}

// learn narrows what is believed by what a call has answered.
func (m *modelRun) learn(o op, outcome string) beliefs {
	out := m.believed.clone()
	fresh := beliefs{}
	for _, w := range o.ways(m.believed) {
		if w.outcome != outcome {
			continue
		}
		now := maps.Clone(w.given)
		maps.Copy(now, w.changes)
		for name, s := range now {
			if !strings.HasPrefix(name, childrenOf) {
				if _, ok := fresh[name]; !ok {
					fresh[name] = []state{s}
				}
				fresh.add(name, s)
			}
		}
	}
	if len(fresh) == 0 {
		var may []string
		for _, w := range o.ways(m.believed) {
			may = append(may, fmt.Sprintf("%s given %v", w.outcome, w.given))
		}
		m.Errorf("%+v: %s, want one of\n%s", o, outcome, strings.Join(may, "\n"))
	}
	maps.Copy(out, fresh)
	return out
}

// born adds to held what is held since it was made, in one with its making: by its own
// labels, or by the lease under which it was made.
func (m *modelRun) born(calls []op, outcomes []string, held map[string]bool) {
	for i, o := range calls {
		if outcomes[i] != done {
			continue
		}
		var name string
		switch o.Do {
		case "blob":
			name = id(o.NS, "content", o.Key)
		case "image", "lease", "ingest":
			name = id(o.NS, o.Do, o.Key)
		case "prepare":
			name = id(o.NS, "snapshot", o.Key)
		case "commit":
			name = id(o.NS, "snapshot", o.Parent)
		default:
			continue
		}
		b := beliefs{name: m.believed.of(name)}
		if lease := id(o.NS, "lease", o.Lease); o.Lease != "" {
			b[lease] = m.believed.of(lease)
		}
		if b.held(m.now(), true)[name] {
			held[name] = true
		}
	}
}

// crash kills the worker while the calls run.
func (m *modelRun) crash(calls []op) {
	if err := m.process.send(request{Batch: calls, Collect: m.author.IntN(2) == 0}); err != nil {
		m.Fatal(err)
	}
	time.Sleep(time.Duration(m.author.IntN(6000)) * time.Microsecond)
	m.process.kill()
	for _, o := range calls {
		m.note("crash at %+v", o)
	}
	m.believed.doubt(m.during(calls).held(m.now(), true)) // as in batch
	m.believed = m.during(calls)
	m.believed.doubt(m.believed.held(m.now(), true))
	m.process = spawn(m.T, m.dir)
	if m.offset > 0 {
		m.ask(request{Advance: m.offset})
	}
}

func (m *modelRun) advance(d time.Duration) {
	m.note("%v pass", d)
	m.offset += d
	m.believed.doubt(m.believed.held(m.now(), true))
	m.ask(request{Advance: d})
}

// look collects and compares everything.
func (m *modelRun) look() {
	m.Helper()
	a := m.ask(request{Collect: true})
	if a.Err != "" {
		m.Errorf("collect and list: %s", a.Err)
	}
	for _, w := range append(m.believed.settle(a.There), a.Backend...) {
		m.Error(w)
	}
	held := m.believed.held(m.now(), true)
	for _, name := range slices.Sorted(maps.Keys(a.There)) {
		if !held[name] {
			m.Errorf("%s is %v: nothing holds it, and it is there after a collection", name, a.There[name])
		}
	}
	m.note("looked: %d records", len(a.There))
}
