package output

import (
	"bytes"
	"sync"
	"time"

	"gantry/api/logfile"
)

// tellEvery is how often a Ring tells of what it drops.
const tellEvery = 10 * time.Second

// Ring is a log that never holds up the process: what the log can't take at once, since
// its file system is slow or a rotation waits for a reader, waits here, up to a number of
// bytes. What comes beyond that is dropped, by whole lines: a line of which the beginning
// was taken ends where it is. What is dropped is counted and told.
type Ring struct {
	*Log
	max    int64
	warned bool          // of the log's file system; the goroutine's
	idle   chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	wake   *sync.Cond
	queue  []piece   // guarded by mu
	size   int64     // of the pieces' bytes, together; guarded by mu
	closed bool      // guarded by mu
	cut    [3]cut    // by stream; guarded by mu
	lost   lost      // guarded by mu
	told   time.Time // guarded by mu
}

// cut is where a stream is in its lines.
type cut struct {
	open     bool // the last byte taken is no newline
	dropping bool // the rest of the line is dropped
	mend     bool // the line that is open has lost its end
}

// lost is what was dropped and is not told yet.
type lost struct{ lines, bytes int64 }

// newRing returns l behind a buffer of size bytes.
func newRing(l *Log, size int64) *Ring {
	r := &Ring{Log: l, max: max(size, 0), idle: make(chan struct{})}
	r.wake = sync.NewCond(&r.mu)
	go r.drain() // ends with End
	return r
}

// Write implements Output. It never waits for the log.
func (r *Ring) Write(s logfile.Stream, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	p = r.finishDrop(s, p)
	if len(p) == 0 {
		return nil
	}
	taken := len(p)
	if room := r.room(); int64(taken) > room && len(r.queue) > 0 {
		taken = bytes.LastIndexByte(p[:max(0, room)], '\n') + 1
	}
	r.take(s, p[:taken])
	r.drop(s, p[taken:])
	return nil
}

// fewPieces may wait however small they are; each takes more than its bytes.
const fewPieces = 64

// room is how many bytes more may wait. It is called under mu.
func (r *Ring) room() int64 {
	if int64(len(r.queue)) >= max(fewPieces, r.max/16) {
		return 0
	}
	return r.max - r.size
}

// finishDrop drops the rest of a line of which something was dropped already. It is
// called under mu.
func (r *Ring) finishDrop(s logfile.Stream, p []byte) []byte {
	c := &r.cut[s]
	if !c.dropping {
		return p
	}
	n := bytes.IndexByte(p, '\n') + 1
	if c.dropping = n == 0; c.dropping {
		n = len(p)
	}
	r.lost.bytes += int64(n)
	return p[n:]
}

// take queues p. It is called under mu.
func (r *Ring) take(s logfile.Stream, p []byte) {
	if len(p) == 0 {
		return
	}
	c := &r.cut[s]
	data := make([]byte, 0, len(p)+1)
	if c.mend {
		data = append(data, '\n')
	}
	data = append(data, p...)
	c.mend, c.open = false, p[len(p)-1] != '\n'
	r.queue = append(r.queue, piece{s, time.Now(), data})
	r.size += int64(len(data))
	r.wake.Signal()
}

// drop counts p as lost. It is called under mu.
func (r *Ring) drop(s logfile.Stream, p []byte) {
	if len(p) == 0 {
		return
	}
	c := &r.cut[s]
	c.dropping = p[len(p)-1] != '\n'
	r.lost.bytes += int64(len(p))
	r.lost.lines += int64(bytes.Count(p, []byte{'\n'}))
	if c.dropping {
		r.lost.lines++
	}
	if c.open {
		c.mend, c.open = true, false
	}
}

// drain carries the queue to the log.
func (r *Ring) drain() {
	defer close(r.idle)
	for {
		p, tell, ok := r.next()
		if tell.bytes > 0 {
			r.host.warn("log drops output", "lines", tell.lines, "bytes", tell.bytes, "buffer", r.max)
		}
		if !ok {
			return
		}
		if err := r.write(p.stream, p.at, p.data); err != nil && !r.warned {
			r.warned = true
			r.host.warn("log loses output", "err", err)
		}
	}
}

// next waits for a piece; none at the end. With it comes what is to be told.
func (r *Ring) next() (p piece, tell lost, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) == 0 && !r.closed {
		r.queue = nil // a quiet process holds nothing
		r.wake.Wait()
	}
	if ok = len(r.queue) > 0; ok {
		p, r.queue[0] = r.queue[0], piece{}
		r.queue = r.queue[1:]
		r.size -= int64(len(p.data))
	}
	if !ok || r.lost.bytes > 0 && time.Since(r.told) >= tellEvery {
		tell, r.lost, r.told = r.lost, lost{}, time.Now()
	}
	return p, tell, ok
}

// End implements Output: what waits is written first.
func (r *Ring) End() {
	r.mu.Lock()
	r.closed = true
	r.wake.Signal()
	r.mu.Unlock()
	<-r.idle
	r.Log.End()
}

// Close implements Output.
func (r *Ring) Close() error {
	r.End()
	return r.Log.Close()
}
