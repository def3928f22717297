package transfer

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
)

// report tells of progress; it may be called by several at once.
type report func(transfer.Progress)

func reporter(to func(transfer.Progress)) report {
	if to == nil {
		return func(transfer.Progress) {}
	}
	var mu sync.Mutex
	return func(p transfer.Progress) {
		mu.Lock()
		defer mu.Unlock()
		to(p)
	}
}

// state of a blob; they only grow.
type state uint8

const (
	stateNew state = iota
	stateWaiting
	stateMoving
	stateThere // or complete
	stateExtracting
	stateExtracted
)

// job is what is known, and what has been told, of one blob.
type job struct {
	desc    ocispec.Descriptor
	name    string
	parents []string
	state   state
	found   bool // it was there before
	offset  int64

	told       state
	toldOffset int64
}

// tracker turns what happens to blobs into progress: a change of state soon, bytes every
// tick. What it is told never waits for who listens. One that is nil takes what is
// extracted.
type tracker struct {
	root   string // parent of what has none
	moving string // the event of bytes
	report report

	mu      sync.Mutex
	jobs    map[digest.Digest]*job // guarded by mu
	order   []*job                 // guarded by mu
	parents map[digest.Digest][]string

	changed chan struct{}
	end     chan struct{}
	ended   chan struct{}
}

const (
	tick     = 200 * time.Millisecond
	lastWord = 10 * time.Second // how long the end waits for who listens
)

// follow starts a tracker; stop ends it.
func follow(root, moving string, r report) *tracker {
	t := &tracker{root: root, moving: moving, report: r,
		jobs: map[digest.Digest]*job{}, parents: map[digest.Digest][]string{},
		changed: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{})}
	go t.run()
	return t
}

func (t *tracker) run() {
	defer close(t.ended)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-t.end:
			t.tell()
			return
		case <-t.changed:
		case <-ticker.C:
		}
		t.tell()
	}
}

// stop tells what is left.
func (t *tracker) stop() {
	close(t.end)
	timer := time.NewTimer(lastWord)
	defer timer.Stop()
	select {
	case <-t.ended:
	case <-timer.C:
	}
}

func (t *tracker) add(d ocispec.Descriptor) { t.set(d, stateWaiting, func(*job) {}) }

func (t *tracker) complete(d ocispec.Descriptor) { t.set(d, stateThere, func(*job) {}) }

func (t *tracker) exists(d ocispec.Descriptor) { t.set(d, stateThere, func(j *job) { j.found = true }) }

func (t *tracker) extracting(d ocispec.Descriptor) {
	if t == nil {
		return
	}
	t.set(d, stateExtracting, func(*job) {})
}

// extracted tells of a layer only when it was told that it is being extracted.
func (t *tracker) extracted(d ocispec.Descriptor) {
	if t == nil {
		return
	}
	t.mu.Lock()
	j := t.jobs[d.Digest]
	began := j != nil && j.state == stateExtracting
	t.mu.Unlock()
	if began {
		t.set(d, stateExtracted, func(*job) {})
	}
}

// moved does not wake who tells: bytes are told at the tick.
func (t *tracker) moved(d ocispec.Descriptor, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j := t.jobs[d.Digest]; j != nil && j.state <= stateMoving {
		j.state, j.offset = stateMoving, offset
	}
}

// children makes d the parent of what it names.
func (t *tracker) children(d ocispec.Descriptor, children []ocispec.Descriptor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range children {
		t.parents[c.Digest] = append(t.parents[c.Digest], manifest.Ref(d))
	}
}

func (t *tracker) set(d ocispec.Descriptor, s state, also func(*job)) {
	t.mu.Lock()
	j := t.jobs[d.Digest]
	if j == nil {
		j = &job{desc: d, name: manifest.Ref(d), parents: t.parents[d.Digest]}
		if len(j.parents) == 0 {
			j.parents = []string{t.root}
		}
		t.jobs[d.Digest] = j
		t.order = append(t.order, j)
	}
	j.state = max(j.state, s)
	also(j)
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// tell reports what has not been told yet.
func (t *tracker) tell() {
	t.mu.Lock()
	var news []transfer.Progress
	for _, j := range t.order {
		news = j.news(news, t.moving)
	}
	t.mu.Unlock()
	for _, p := range news {
		t.report(p)
	}
}

// news appends what has happened since it was told last. "waiting" and "complete" are
// always told, the steps between only when somebody could see them.
func (j *job) news(out []transfer.Progress, moving string) []transfer.Progress {
	say := func(event string, progress int64, parents []string) {
		out = append(out, transfer.Progress{Event: event, Name: j.name, Parents: parents, Progress: progress, Total: j.desc.Size, Desc: &j.desc})
	}
	if j.told < stateWaiting && j.state >= stateWaiting {
		say("waiting", 0, j.parents)
	}
	if j.state == stateMoving && j.offset != j.toldOffset {
		say(moving, j.offset, j.parents)
		j.toldOffset = j.offset
	}
	if j.told < stateThere && j.state >= stateThere {
		if j.found {
			say("already exists", j.desc.Size, nil)
		} else {
			say("complete", j.desc.Size, j.parents)
		}
	}
	if j.told < stateExtracting && j.state >= stateExtracting {
		say("extracting", 0, j.parents)
	}
	if j.told < stateExtracted && j.state >= stateExtracted {
		say("extracted", j.desc.Size, j.parents)
	}
	j.told = j.state
	return out
}
