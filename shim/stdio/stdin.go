package stdio

import (
	"os"
	"sync"
)

// Stdin is the shim's end of a process's stdin: a pipe, or a terminal's master.
// Writes of several writers do not mix. Safe for concurrent use.
type Stdin struct {
	lane sync.Mutex // held across a write

	mu     sync.Mutex
	file   *os.File      // guarded by mu
	ready  chan struct{} // closed when file is set or will not be; guarded by mu
	owned  bool          // guarded by mu
	closed bool          // guarded by mu
}

// set says where to write; owned files are closed by Close.
func (s *Stdin) set(f *os.File, owned bool) error {
	if owned {
		own, err := nonblocking(f)
		if err != nil {
			return err
		}
		f.Close()
		f = own
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.owned = f, owned
	if s.closed && owned {
		f.Close()
	}
	s.open()
	return nil
}

// open lets writers go on. It is called under mu.
func (s *Stdin) open() {
	if s.ready == nil {
		s.ready = make(chan struct{})
	}
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

// Write gives p to the process. It waits while the process does not read, and
// before there is a terminal.
func (s *Stdin) Write(p []byte) (int, error) {
	s.lane.Lock()
	defer s.lane.Unlock()
	s.mu.Lock()
	if s.ready == nil {
		s.ready = make(chan struct{})
	}
	ready := s.ready
	s.mu.Unlock()
	<-ready
	s.mu.Lock()
	f, closed := s.file, s.closed
	s.mu.Unlock()
	if closed || f == nil {
		return 0, os.ErrClosed
	}
	return f.Write(p)
}

// CloseSoon ends the process's stdin after the writes that have begun, without
// waiting for them. A terminal has no end to give: nothing happens.
func (s *Stdin) CloseSoon() {
	s.mu.Lock()
	terminal := s.file != nil && !s.owned
	s.mu.Unlock()
	if terminal {
		return
	}
	go func() { // ends with the write that holds the lane, at closeNow at the latest
		s.lane.Lock()
		defer s.lane.Unlock()
		s.shut()
	}()
}

// closeNow interrupts writes.
func (s *Stdin) closeNow() { s.shut() }

func (s *Stdin) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.owned {
		s.file.Close()
	}
	s.open()
}
