package stdio

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gantry/api/logfile"
	"gantry/shim/output"
)

// warnOnce tells of the first failure of a stream.
type warnOnce struct {
	log  *slog.Logger
	told atomic.Bool
}

func (w *warnOnce) warn(msg string, err error) {
	if !errors.Is(err, os.ErrClosed) && !w.told.Swap(true) {
		w.log.Warn(msg, "err", err)
	}
}

// outputSink is one stream of an Output.
type outputSink struct {
	out     output.Output
	stream  logfile.Stream
	trouble *warnOnce
}

func (s outputSink) write(p []byte) {
	if err := s.out.Write(s.stream, p); err != nil {
		s.trouble.warn("log loses output", err)
	}
}

func (s outputSink) end()   {} // the IO ends the output when both streams have
func (s outputSink) close() {}

// fileSink is a fifo or a file.
type fileSink struct {
	f       *os.File
	trouble *warnOnce
}

// openFifo opens for reading too: that never waits for a reader, and no reader
// that goes away ends the stream.
func openFifo(path string, trouble *warnOnce) (sink, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = errors.New("not a fifo")
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &fileSink{os.NewFile(uintptr(fd), path), trouble}, nil
}

func openFile(path string, trouble *warnOnce) (sink, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &fileSink{f, trouble}, nil
}

func (s *fileSink) write(p []byte) {
	if _, err := s.f.Write(p); err != nil {
		s.trouble.warn("stream loses output", err)
	}
}

func (s *fileSink) end()   { s.f.Close() }
func (s *fileSink) close() { s.f.Close() }

// openStdinFifo opens both ends, so that the fifo does not end before the
// keeper is closed.
func openStdinFifo(path string) (r, keeper *os.File, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	r = os.NewFile(uintptr(fd), path)
	fd, err = unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Close()
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return r, os.NewFile(uintptr(fd), path), nil
}

// feed carries the fifo to stdin, and its end.
func (s *IO) feed() {
	defer s.source.Close()
	if _, err := io.Copy(s.stdin, readerOnly{s.source}); err != nil && !errors.Is(err, unix.EPIPE) {
		s.trouble.warn("copy stdin", err)
	}
	s.stdin.CloseSoon()
}

// readerOnly hides the file's other methods from io.Copy.
type readerOnly struct{ io.Reader }
