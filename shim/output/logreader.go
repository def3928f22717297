package output

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// NewReader implements Output.
func (l *Log) NewReader(h shimwire.Hello) Reader {
	r := &logReader{l: l, lines: h.Lines, want: wanted(h)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.From == nil {
		r.pos = l.tip()
		r.virgin = r.pos.Generation == 0
	} else {
		r.pos = *h.From
		r.pos.Offset = max(0, r.pos.Offset)
		if r.pos.Generation == l.gens[len(l.gens)-1].num {
			r.pos.Offset = min(r.pos.Offset, l.limit) // what was held there has been dropped
		}
	}
	if r.lines {
		r.pos.Skip = [2]uint32{}
	}
	r.start = r.pos
	if !l.ended {
		l.readers[r] = struct{}{}
	}
	return r
}

// tip is the position after all output so far. It is called under mu.
func (l *Log) tip() shimwire.Position {
	current := l.gens[len(l.gens)-1]
	p := shimwire.Position{Generation: current.num, Offset: l.limit}
	if current.num == 0 && current.prev != 0 {
		p = shimwire.Position{Generation: current.prev, Offset: math.MaxInt64}
	}
	for i := range p.Skip {
		p.Skip[i] = uint32(len(l.pending[i+1].data))
	}
	return p
}

// logReader walks the files of a log. The goroutine that calls Next owns it;
// pos.Generation, file, cut, late and gone are written under l.mu too, since rotation
// looks at them.
type logReader struct {
	l     *Log
	lines bool
	want  wants
	start shimwire.Position
	pos   shimwire.Position // after what has been given
	over  bool

	file *logfile.File // of generation pos.Generation; nil: to be opened
	src  section
	dec  *logfile.Decoder
	last bool  // file has been read to its end, and will not grow
	dry  int64 // there is no whole entry more before this limit of file
	// virgin says that the reader came when the log was empty: it misses whatever
	// goes, while the zero position given by a client is whatever there is.
	virgin bool
	// tries counts failed openings in a row
	tries int
	text  []byte // bytes of one stream that make the next frame

	// dropped says that what was held of lostGen from lostFrom to lostTo is gone; under l.mu
	dropped          bool
	lostGen          uint64
	lostFrom, lostTo int64
	gapAt            int64 // offset where a gap is to be told; 0 is none

	cut  bool // the file was emptied under us
	late bool // rotation waits no more
	gone bool
}

// Start implements Reader.
func (r *logReader) Start() shimwire.Position { return r.start }

// Close implements Reader.
func (r *logReader) Close() {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.gone = true
	delete(r.l.readers, r)
	r.l.change.Broadcast()
}

// step is what a reader does next, decided under the lock and done without it.
type step struct {
	do    action
	limit int64  // read the file up to here
	epoch int    // of what is held, when limit was
	open  uint64 // generation to open
	index int    // its place among the rotated files
	gap   bool   // something between has gone
}

type action int

const (
	doRead action = iota
	doOpen
	doPending
	doEnd
	doStop
)

// Next implements Reader.
func (r *logReader) Next(dst []byte) ([]byte, error) {
	for before := len(dst); len(dst) == before; {
		if r.over {
			return dst, r.finish(io.EOF)
		}
		s := r.wait(&dst)
		var err error
		switch s.do {
		case doRead:
			dst, err = r.read(dst, s)
		case doOpen:
			dst, err = r.open(dst, s)
		case doEnd:
			r.over = true
			dst = shimwire.AppendMark(dst, shimwire.End, r.pos)
		case doStop:
			r.over = true
		}
		if err != nil {
			r.over = true
			return dst, r.finish(err)
		}
	}
	return dst, nil
}

// finish closes the file and returns err.
func (r *logReader) finish(err error) error {
	r.setFile(nil)
	r.Close()
	return err
}

func (r *logReader) setFile(f *logfile.File) {
	r.l.mu.Lock()
	old := r.file
	r.file = f
	r.l.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// wait waits until there is something to do, and decides what. Beginnings of
// lines it appends itself, since they are memory.
func (r *logReader) wait(dst *[]byte) step {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if r.gone {
			return step{do: doStop}
		}
		if r.settle() || r.gapAt > 0 && r.dec.Offset() >= r.gapAt {
			r.gap(dst)
			return step{do: doPending}
		}
		if s, ok := r.inFiles(); ok {
			return s
		}
		if !r.lines && r.pend(dst) {
			return step{do: doPending}
		}
		if l.ended {
			return step{do: doEnd}
		}
		l.change.Wait()
	}
}

// inFiles decides whether there is something in the files. It is called under mu.
func (r *logReader) inFiles() (step, bool) {
	current := r.l.gens[len(r.l.gens)-1].num
	if r.file != nil && !r.cut {
		switch {
		case r.pos.Generation == current:
			limit := r.l.limit
			if r.gapAt > 0 {
				limit = r.gapAt
			}
			return step{do: doRead, limit: limit, epoch: r.l.held.epoch}, r.dec.Offset() < limit && r.dry < limit
		case !r.last:
			return step{do: doRead, limit: math.MaxInt64}, true
		}
	}
	return r.successor()
}

// successor finds the file to open: that of the position when none is open yet,
// else the one after. It is called under mu.
func (r *logReader) successor() (step, bool) {
	for i, g := range r.l.gens {
		same := r.file == nil && g.num == r.pos.Generation
		if g.num == 0 || !same && g.num <= r.pos.Generation {
			continue
		}
		if i == len(r.l.gens)-1 && r.l.limit == 0 {
			break // named, and not written yet
		}
		s := step{do: doOpen, open: g.num, index: len(r.l.gens) - 1 - i}
		s.gap = !same && (r.pos.Generation != 0 || r.virgin) && (g.prev != r.pos.Generation || r.cutShort(g))
		return s, true
	}
	return step{}, false
}

// cutShort says that the client's position is in the file before g, which has gone, and
// perhaps before its end. It is called under mu.
func (r *logReader) cutShort(g generation) bool {
	if r.file != nil || r.pos.Generation == 0 {
		return false
	}
	return g.end < 0 && r.pos.Offset != math.MaxInt64 || r.pos.Offset < g.end
}

// open opens the file of a step; when rotation has moved it meanwhile, nothing
// changes and the next step tries again.
func (r *logReader) open(dst []byte, s step) ([]byte, error) {
	f, err := r.l.format.OpenFile(r.l.path, s.index)
	if errors.Is(err, fs.ErrNotExist) {
		return dst, r.lost(s.open)
	}
	if err != nil {
		return dst, err
	}
	num := f.Generation
	if num == 0 && r.l.allHeld(s.open) {
		num = s.open
	}
	if num != s.open {
		f.Close()
		return dst, r.lost(s.open)
	}
	pos := shimwire.Position{Generation: num, Skip: r.pos.Skip}
	if r.pos.Generation == num {
		pos = r.pos
	}
	if s.gap {
		pos.Skip = [2]uint32{}
		dst = r.appendGap(dst, f, pos)
	}
	r.src = section{l: r.l, file: f, off: pos.Offset}
	r.dec = r.l.format.NewDecoder(&r.src, pos.Offset)
	r.last, r.dry, r.tries = false, 0, 0
	r.l.mu.Lock()
	r.pos, r.cut, r.late, r.gapAt = pos, false, false, 0
	r.l.mu.Unlock()
	r.setFile(f)
	r.l.wake()
	return dst, nil
}

// appendGap tells of a gap before the file f.
func (r *logReader) appendGap(dst []byte, f *logfile.File, pos shimwire.Position) []byte {
	if first, counted := f.First(); r.lines && counted {
		return shimwire.AppendGap(dst, pos, first)
	}
	return shimwire.AppendMark(dst, shimwire.Gap, pos)
}

// wake lets a rotation look again at what its readers need.
func (l *Log) wake() {
	l.mu.Lock()
	l.change.Broadcast()
	l.mu.Unlock()
}

// lost is called when a file is not where the list has it: moved by a rotation
// that has not told yet, or removed by somebody else.
func (r *logReader) lost(num uint64) error {
	time.Sleep(time.Millisecond)
	if r.tries++; r.tries < 1000 {
		return nil
	}
	return &fs.PathError{Op: "open", Path: r.l.path, Err: fs.ErrNotExist}
}

// read decodes entries up to limit and appends a batch of frames.
func (r *logReader) read(dst []byte, s step) ([]byte, error) {
	limit := s.limit
	r.src.limit, r.src.epoch, r.src.current = limit, s.epoch, limit != math.MaxInt64
	var e logfile.Entry
	var f shimwire.Frame
	for full := len(dst) + batch; len(dst)+len(r.text) < full; {
		err := r.dec.Next(&e)
		if errors.Is(err, io.EOF) {
			r.last, r.dry = limit == math.MaxInt64, limit
			break
		}
		if err != nil {
			return dst, err
		}
		line := r.skip(e.Stream, e.Line)
		if !r.want[e.Stream] || len(line) == 0 && !r.lines {
			r.pos.Offset = r.dec.Offset()
			continue
		}
		if len(r.text) > 0 && (r.lines || f.Stream != e.Stream) {
			dst = r.emit(dst, f)
		}
		r.pos.Offset = r.dec.Offset()
		r.text = append(r.text, line...)
		f = shimwire.Frame{Stream: e.Stream, Time: e.Time, Pos: r.pos}
		if r.lines {
			dst = r.emit(dst, f)
		}
	}
	if len(r.text) > 0 {
		dst = r.emit(dst, f)
	}
	return dst, nil
}

func (r *logReader) emit(dst []byte, f shimwire.Frame) []byte {
	for text := r.text; ; {
		f.Data = text[:min(len(text), maxFrame)]
		dst = shimwire.AppendData(dst, f)
		if text = text[len(f.Data):]; len(text) == 0 {
			break
		}
	}
	r.text = r.text[:0]
	return dst
}

// maxFrame keeps a frame below the wire's bound, for entries that are not ours.
const maxFrame = 64 << 10

// skip takes off what the client had before it was written.
func (r *logReader) skip(s logfile.Stream, line []byte) []byte {
	n := min(int(r.pos.Skip[s-1]), len(line))
	r.pos.Skip[s-1] -= uint32(n)
	return line[n:]
}

// pend appends the beginnings of lines that this reader has not seen, and says
// whether there were any. It is called under mu, with all files read.
func (r *logReader) pend(dst *[]byte) bool {
	some := false
	for _, s := range []logfile.Stream{logfile.Stdout, logfile.Stderr} {
		data := r.l.pending[s].data
		seen := int(r.pos.Skip[s-1])
		if len(data) <= seen {
			continue
		}
		r.pos.Skip[s-1] = uint32(len(data))
		if r.want[s] {
			some = true
			*dst = shimwire.AppendData(*dst, shimwire.Frame{
				Stream: s, Time: r.l.pending[s].at, Data: data[seen:], Pos: r.pos,
			})
		}
	}
	return some
}
