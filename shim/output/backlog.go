package output

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"gantry/api/shimwire"
)

const (
	// maxHeld is how many bytes of entries wait for a file system that refuses them.
	maxHeld = 1 << 20
	// retryEvery is how long after a refusal the next attempt is.
	retryEvery = 200 * time.Millisecond
)

// backlog is the end of a log that its file does not have yet, because the file system
// refused it: readers see it as if it were there. What grows beyond maxHeld is dropped
// as a whole; readers that did not have it get a gap.
type backlog struct {
	disk  int64     // bytes in the file; written under lane and mu
	data  []byte    // that follow them; written under lane and mu
	epoch int       // grows when offsets from disk on begin to mean something else; guarded by mu
	next  time.Time // no attempt before it; guarded by lane
}

// flush writes the collected entries, or holds them. It is called under lane. An error
// is of the file system.
func (l *Log) flush() error {
	defer func() { l.out = l.out[:0] }()
	switch {
	case len(l.held.data) == 0 && len(l.out) == 0:
		return nil
	case len(l.held.data) == 0:
		n, err := l.put(l.out)
		l.grown(n, 0)
		if err != nil {
			l.hold(l.out[n:])
		}
		return err
	}
	l.hold(l.out)
	if time.Now().Before(l.held.next) {
		return nil
	}
	n, err := l.put(l.held.data)
	l.grown(n, n)
	if err != nil {
		l.postpone()
	}
	return err
}

// put writes b, as far as the file system takes whole entries, and returns their bytes.
func (l *Log) put(b []byte) (int, error) {
	n, err := l.file.Write(b)
	if err == nil {
		return n, nil
	}
	whole := l.format.Whole(b[:n])
	if n > whole && l.file.Truncate(l.held.disk+int64(whole)) == nil {
		n = whole
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // rotation has given the file another name
	}
	return n, fmt.Errorf("write log %s: %w", l.path, err)
}

// grown notes n bytes more in the file, taken of them from what was held.
func (l *Log) grown(n, taken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held.disk += int64(n)
	if l.held.data = l.held.data[taken:]; len(l.held.data) == 0 {
		l.held.data = nil
	}
}

// hold keeps b for an attempt later, which comes also when there is no more output.
func (l *Log) hold(b []byte) {
	if len(l.held.data)+len(b) > maxHeld {
		l.dropHeld()
	}
	first := len(l.held.data) == 0
	l.mu.Lock()
	l.held.data = append(l.held.data, b...)
	l.mu.Unlock()
	if first {
		l.postpone()
	}
}

func (l *Log) postpone() {
	l.held.next = time.Now().Add(retryEvery)
	time.AfterFunc(retryEvery, l.again)
}

// again is an attempt that no output has caused. It ends with the log.
func (l *Log) again() {
	l.lane.Lock()
	defer l.lane.Unlock()
	if l.file == nil || len(l.held.data) == 0 || time.Now().Before(l.held.next) {
		return
	}
	defer l.borrow()()
	_ = l.flush() // told when it was refused first
}

// dropHeld gives up what is held: the log ends where its file does. It is called under
// lane.
func (l *Log) dropHeld() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held.epoch++
	if len(l.held.data) == 0 {
		return
	}
	current := l.gens[len(l.gens)-1].num
	for r := range l.readers {
		if !r.dropped || r.lostGen != current {
			r.dropped, r.lostGen = true, current
			r.lostFrom, r.lostTo = l.held.disk, l.held.disk+int64(len(l.held.data))
		}
	}
	l.size -= int64(len(l.held.data))
	l.limit = l.held.disk
	l.held.data = nil
	l.change.Broadcast()
}

// allHeld says whether num is the current generation and its file still empty.
func (l *Log) allHeld(num uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held.disk == 0 && l.gens[len(l.gens)-1].num == num
}

// section is the part of a file that the decoder may read, with what is held behind it.
type section struct {
	l          *Log
	file       io.ReaderAt
	off, limit int64
	epoch      int  // of the log when limit was
	current    bool // the file is the log's current one, or was when limit was
}

func (s *section) Read(p []byte) (int, error) {
	if s.off >= s.limit {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.limit-s.off)]
	n, err := s.file.ReadAt(p, s.off)
	if s.current {
		if n, err = s.settle(p, n, err); err != nil {
			return 0, err
		}
	}
	s.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// settle judges n bytes read from the current file; when there are none, what is held
// comes next.
func (s *section) settle(p []byte, n int, err error) (int, error) {
	h := &s.l.held
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	over := s.off - h.disk
	switch {
	case s.epoch != h.epoch: // these may be the bytes of something else
		return 0, io.EOF
	case n > 0:
		return n, nil
	case over < 0 && err == io.EOF: // held until a moment ago
		return s.file.ReadAt(p[:min(int64(len(p)), -over)], s.off)
	case over < int64(len(h.data)) && err == io.EOF:
		return copy(p, h.data[over:]), nil
	}
	return n, err
}

// settle takes the reader back to where what it had in hand was dropped, and says
// whether it has missed something there. It is called under mu.
func (r *logReader) settle() (gap bool) {
	if !r.dropped || r.file == nil || r.pos.Generation < r.lostGen {
		return false
	}
	r.dropped = false
	if r.pos.Generation > r.lostGen {
		return true // how much of it the reader had is not known any more
	}
	off := r.dec.Offset()
	if off < r.lostFrom {
		r.gapAt = r.lostFrom
	} else {
		gap = off < r.lostTo
		off = r.lostFrom
	}
	r.pos.Offset, r.dry = off, 0
	r.src.off = off
	r.dec = r.l.format.NewDecoder(&r.src, off)
	return gap
}

// gap appends a mark, after which no line goes on. It is called under mu.
func (r *logReader) gap(dst *[]byte) {
	r.gapAt = 0
	r.pos.Skip = [2]uint32{}
	*dst = shimwire.AppendMark(*dst, shimwire.Gap, r.pos)
}
