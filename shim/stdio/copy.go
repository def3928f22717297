package stdio

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is how much is read at once.
const chunk = 64 << 10

// chunks lends buffers while there is something to read, so that a quiet
// process holds none.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// source is the shim's end of one output stream.
type source struct {
	file *os.File
	raw  syscall.RawConn
	sink sink
}

// newSource takes r over: on success it is closed, and read through another descriptor.
func newSource(r *os.File) (*source, error) {
	f, err := nonblocking(r)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	r.Close()
	return &source{file: f, raw: raw}, nil
}

// copy carries everything to the sink: to the end of file or, after finishBy,
// what is there at that time. Then a stream that others still hold is read on
// and dropped, so that they do not get stuck.
func (s *source) copy() {
	defer s.sink.end()
	for {
		n, err := s.move(false)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.rest()
			go s.swallow() // until the end or close
			return
		}
		if n == 0 {
			s.file.Close()
			return
		}
	}
}

// rest carries what the pipe holds now.
func (s *source) rest() {
	s.file.SetReadDeadline(time.Time{})
	for left := 1 << 20; left > 0; {
		n, err := s.move(true)
		if n == 0 || err != nil {
			return
		}
		left -= n
	}
}

func (s *source) swallow() {
	s.sink = discard{}
	for {
		if n, _ := s.move(false); n == 0 {
			s.file.Close()
			return
		}
	}
}

// move carries one chunk and returns its size; 0 is the end, for once is also
// nothing there. A terminal ends with EIO.
func (s *source) move(once bool) (n int, err error) {
	var buf *[chunk]byte
	rerr := s.raw.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[chunk]byte)
		for {
			if n, err = unix.Read(int(fd), buf[:]); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if n > 0 {
			return true
		}
		n = 0
		chunks.Put(buf)
		buf = nil
		return once || !errors.Is(err, unix.EAGAIN)
	})
	if buf != nil {
		s.sink.write(buf[:n])
		chunks.Put(buf)
		return n, nil
	}
	if rerr != nil {
		return 0, rerr
	}
	return 0, err
}

// finishBy ends copy at t, if the stream has not ended by then.
func (s *source) finishBy(t time.Time) { s.file.SetReadDeadline(t) }

func (s *source) close() { s.file.Close() }

// sink is where one output stream goes.
type sink interface {
	write(p []byte)
	// end tells that no more comes.
	end()
	// close frees it; a write that waits gives up.
	close()
}

type discard struct{}

func (discard) write([]byte) {}
func (discard) end()         {}
func (discard) close()       {}
