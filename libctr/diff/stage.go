package diff

import "io"

// stage passes what is written to it on to another writer in a goroutine of its own, so
// that the two work on a processor each. The goroutine ends with Close, or at an error.
type stage struct {
	full chan []byte
	free chan []byte // closed when the goroutine has ended
	done chan error
	cur  []byte
	err  error // what the writer behind said
	over bool
}

func newStage(w io.Writer) *stage {
	s := &stage{
		full: make(chan []byte, aheadChunks), free: make(chan []byte, aheadChunks),
		done: make(chan error, 1), cur: make([]byte, 0, aheadChunk),
	}
	for range aheadChunks - 1 {
		s.free <- make([]byte, 0, aheadChunk)
	}
	go func() { s.done <- s.pass(w) }()
	return s
}

func (s *stage) pass(w io.Writer) error {
	defer close(s.free)
	for p := range s.full {
		if _, err := w.Write(p); err != nil {
			return err
		}
		s.free <- p[:0] // has room: there are only so many buffers
	}
	return nil
}

// Write implements io.Writer. An error may be of an earlier write.
func (s *stage) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if s.over {
			return n, s.err
		}
		m := min(len(p), cap(s.cur)-len(s.cur))
		s.cur = append(s.cur, p[:m]...)
		n, p = n+m, p[m:]
		if len(s.cur) == cap(s.cur) {
			s.next()
		}
	}
	return n, nil
}

// next hands the current buffer over and takes another one.
func (s *stage) next() {
	s.full <- s.cur
	next, ok := <-s.free
	if !ok {
		s.end()
		return
	}
	s.cur = next
}

func (s *stage) end() {
	s.over = true
	close(s.full)
	s.err = <-s.done
	if s.err == nil {
		s.err = io.ErrClosedPipe
	}
}

// Close waits until all that was written has been passed on.
func (s *stage) Close() error {
	if s.over {
		return s.err
	}
	s.over = true
	if len(s.cur) > 0 {
		s.full <- s.cur
	}
	close(s.full)
	s.err = <-s.done
	return s.err
}
