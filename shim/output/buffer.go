package output

import (
	"io"
	"sync"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

const (
	// held is how many bytes a Buffer keeps.
	held = 64 << 10
	// heldLast is the bound once the process has ended: what its pipes hold then, 64 KiB
	// each unless it made them larger, waits for no reader.
	heldLast = 512 << 10
)

// Buffer is an output without a log. While somebody reads, the slowest reader
// sets the pace; while nobody does, the process is not held up, and the oldest
// of what nobody has read is dropped.
type Buffer struct {
	keep bool // keep what nobody has read yet

	mu      sync.Mutex
	change  *sync.Cond
	pieces  []piece // guarded by mu
	size    int     // of the pieces together; guarded by mu
	start   int64   // offset of the first piece; guarded by mu
	end     int64   // guarded by mu
	exited  bool    // guarded by mu; see Exited
	ended   bool    // guarded by mu
	done    chan struct{}
	readers map[*bufferReader]struct{} // guarded by mu
}

type piece struct {
	stream logfile.Stream
	at     time.Time
	data   []byte
}

// NewBuffer returns an empty buffer. With keep, the last 64 KiB that nobody has
// read wait for the first reader; else they are dropped at once.
func NewBuffer(keep bool) *Buffer {
	b := &Buffer{keep: keep, done: make(chan struct{}), readers: map[*bufferReader]struct{}{}}
	b.change = sync.NewCond(&b.mu)
	return b
}

// Write implements Output.
func (b *Buffer) Write(s logfile.Stream, p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(p) > 0 && !b.ended {
		if len(b.readers) == 0 && !b.keep {
			b.end += int64(len(p))
			b.start = b.end
			return nil
		}
		part := p[:min(len(p), held/2)]
		for b.size+len(part) > b.most() && len(b.readers) > 0 && !b.ended {
			b.change.Wait()
		}
		for b.size+len(part) > b.most() {
			b.dropFirst()
		}
		b.pieces = append(b.pieces, piece{s, time.Now(), append([]byte(nil), part...)})
		b.size += len(part)
		b.end += int64(len(part))
		p = p[len(part):]
		b.change.Broadcast()
	}
	return nil
}

// most is how many bytes may be held. It is called under mu.
func (b *Buffer) most() int {
	if b.exited {
		return heldLast
	}
	return held
}

// Exited tells that the process has ended: what it has left waits for no reader, up to a
// bound.
func (b *Buffer) Exited() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.exited = true
	b.change.Broadcast()
}

// dropFirst is called under mu.
func (b *Buffer) dropFirst() {
	n := len(b.pieces[0].data)
	b.pieces[0] = piece{}
	b.pieces = b.pieces[1:]
	b.size -= n
	b.start += int64(n)
	if len(b.pieces) == 0 {
		b.pieces = nil
	}
}

// trim drops what all readers have read. It is called under mu.
func (b *Buffer) trim() {
	low := b.end
	for r := range b.readers {
		low = min(low, r.off)
	}
	for len(b.pieces) > 0 && b.start+int64(len(b.pieces[0].data)) <= low {
		b.dropFirst()
	}
	b.change.Broadcast()
}

// End implements Output.
func (b *Buffer) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.ended = true
		close(b.done)
		b.change.Broadcast()
	}
}

// Ended implements Output.
func (b *Buffer) Ended() <-chan struct{} { return b.done }

// Close implements Output.
func (b *Buffer) Close() error { return nil }

// NewReader implements Output. Everything that is held has been read by nobody,
// or not by all, so that a first reader begins there.
func (b *Buffer) NewReader(h shimwire.Hello) Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &bufferReader{b: b, want: wanted(h), off: b.end}
	switch {
	case h.From != nil && *h.From != (shimwire.Position{}):
		r.off = min(max(h.From.Offset, 0), b.end)
	case h.From != nil || len(b.readers) == 0:
		r.off = b.start
	}
	r.start = r.off
	b.readers[r] = struct{}{}
	return r
}

type bufferReader struct {
	b     *Buffer
	want  wants
	start int64
	off   int64 // guarded by b.mu
	gone  bool  // guarded by b.mu
	over  bool
}

func (r *bufferReader) Start() shimwire.Position { return shimwire.Position{Offset: r.start} }

func (r *bufferReader) Close() {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	if r.gone {
		return
	}
	r.gone = true
	// What this reader has not got waits for another one, if that is the rule.
	if delete(r.b.readers, r); len(r.b.readers) > 0 || !r.b.keep {
		r.b.trim()
	}
	r.b.change.Broadcast()
}

func (r *bufferReader) Next(dst []byte) ([]byte, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for r.off == b.end && !b.ended && !r.gone {
		b.change.Wait()
	}
	if r.gone || r.over {
		return dst, io.EOF
	}
	if r.off < b.start {
		r.off = b.start
		dst = shimwire.AppendMark(dst, shimwire.Gap, shimwire.Position{Offset: r.off})
	}
	dst = r.frames(dst)
	if r.off == b.end && b.ended {
		r.over = true
		dst = shimwire.AppendMark(dst, shimwire.End, shimwire.Position{Offset: r.off})
	}
	b.trim()
	return dst, nil
}

// frames appends what comes after r.off and moves it. It is called under mu.
func (r *bufferReader) frames(dst []byte) []byte {
	at := r.b.start
	for _, p := range r.b.pieces {
		end := at + int64(len(p.data))
		if r.off < end && len(dst) < batch {
			data := p.data[r.off-at:]
			r.off = end
			if r.want[p.stream] {
				dst = shimwire.AppendData(dst, shimwire.Frame{
					Stream: p.stream, Time: p.at, Data: data, Pos: shimwire.Position{Offset: end},
				})
			}
		}
		at = end
	}
	return dst
}
