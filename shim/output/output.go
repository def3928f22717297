// Package output collects what one process writes and gives it to live readers.
//
// Log keeps it in rotating files of api/logfile; its readers read those files,
// so that the page cache is the only buffer, and take the beginnings of lines
// that are not written yet from memory. Buffer keeps the last of it in memory,
// for processes without a log. Ring lets a process go on that is faster than its log.
//
// Lock order: Log.lane, then Log.mu. The lane is held across writes and
// rotation, one batch of output at a time; mu covers memory only.
package output

import (
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// Output is what a process writes to. Write is for one goroutine per stream; the
// other methods are safe for concurrent use.
type Output interface {
	// Write takes p, which the caller may reuse. It may wait for readers. An
	// error is of the log's file system; the output goes on to the readers all
	// the same where that is possible.
	Write(s logfile.Stream, p []byte) error
	// End tells that there is no more. What comes later is discarded.
	End()
	// Ended is closed by End.
	Ended() <-chan struct{}
	// NewReader returns a reader that begins where the client asks.
	NewReader(h shimwire.Hello) Reader
	// Close frees what the output holds. Open readers go on to the end.
	Close() error
}

// Open opens the output that u asks for.
func Open(u shimwire.LogURI, h Host) (Output, error) {
	if u.Driver == shimwire.DriverNone {
		return NewBuffer(false), nil
	}
	l, err := OpenLog(u, h)
	if err != nil {
		return nil, err
	}
	if u.NonBlocking {
		return newRing(l, u.Buffer), nil
	}
	return l, nil
}

// Reader is one client's place in an output. Next is for one goroutine.
type Reader interface {
	// Start is the position before the first frame.
	Start() shimwire.Position
	// Next waits for output, appends frames of it to dst and returns that. After
	// an End frame, and after Close, it returns io.EOF.
	Next(dst []byte) ([]byte, error)
	// Close unblocks Next. It may be called at any time, any number of times.
	Close()
}

// wants says which streams a client reads, by logfile.Stream.
type wants [3]bool

func wanted(h shimwire.Hello) wants {
	return wants{logfile.Stdout: h.Stdout, logfile.Stderr: h.Stderr}
}

// batch is how many bytes of frames one Next makes, about.
const batch = 32 << 10
