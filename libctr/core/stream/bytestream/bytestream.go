// Package bytestream carries bytes over a stream of objects, as containerd does: the
// receiver grants a window in bytes, the sender stays within it.
//
//	receiver                      sender
//	  WindowUpdate{65536}  ──►
//	                       ◄──    Data{≤ 32768 bytes}  …
//	  WindowUpdate{65536}  ──►                           once less than 65536 are left
//	                       ◄──    end of the stream
package bytestream

import (
	"errors"
	"fmt"
	"io"
	"sync"

	transferapi "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/libctr/core/stream"
)

const (
	chunk  = 32 << 10  // of one Data message, at most
	window = 2 * chunk // granted at a time
	// most is what a writer takes for granted at a time, whatever the receiver says.
	most = 1 << 30
)

// Reader receives bytes. Not safe for concurrent use.
type Reader struct {
	s       stream.Stream
	granted int64
	rest    []byte
	err     error
}

// NewReader returns the receiving end of s.
func NewReader(s stream.Stream) *Reader { return &Reader{s: s} }

// Read implements io.Reader: io.EOF is the sender's word, a stream that breaks is an error.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		if len(p) == 0 {
			return 0, nil
		}
		r.rest, r.err = r.receive()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// receive takes one message.
func (r *Reader) receive() ([]byte, error) {
	// A sender that is done may not take the grant; what it has sent is still to come.
	granted := r.grant()
	a, err := r.s.Recv()
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("receive stream: %w", err)
	}
	if granted != nil {
		return nil, fmt.Errorf("grant window: %w", granted)
	}
	var m transferapi.Data
	if err := typeurl.UnmarshalTo(a, &m); err != nil {
		return nil, errdefs.InvalidArgument("receive stream: %s is no data: %w", a.GetTypeUrl(), err)
	}
	r.granted -= int64(len(m.GetData()))
	return m.GetData(), nil
}

func (r *Reader) grant() error {
	if r.granted >= window {
		return nil
	}
	a, err := typeurl.MarshalAny(&transferapi.WindowUpdate{Update: window})
	if err != nil {
		return err
	}
	if err := r.s.Send(a); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // Recv says why
		}
		return err
	}
	r.granted += window
	return nil
}

// Close ends the stream.
func (r *Reader) Close() error { return r.s.Close() }

// Writer sends bytes. Not safe for concurrent use.
type Writer struct {
	s stream.Stream

	mu      sync.Mutex
	left    int64         // guarded by mu: what may be sent
	err     error         // guarded by mu: why nothing can be sent any more
	granted chan struct{} // holds a token when one of these has changed
}

// NewWriter returns the sending end of s. What it starts ends with the stream.
func NewWriter(s stream.Stream) *Writer {
	w := &Writer{s: s, granted: make(chan struct{}, 1)}
	go w.listen()
	return w
}

// listen takes grants until the stream ends.
func (w *Writer) listen() {
	for {
		n, err := w.update()
		w.mu.Lock()
		w.left, w.err = min(w.left+n, most), err
		w.mu.Unlock()
		select {
		case w.granted <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (w *Writer) update() (int64, error) {
	a, err := w.s.Recv()
	if errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("send stream: the receiver has ended it: %w", io.ErrClosedPipe)
	}
	if err != nil {
		return 0, fmt.Errorf("send stream: %w", err)
	}
	var m transferapi.WindowUpdate
	if err := typeurl.UnmarshalTo(a, &m); err != nil {
		return 0, errdefs.InvalidArgument("send stream: %s is no window update: %w", a.GetTypeUrl(), err)
	}
	if m.GetUpdate() < 0 {
		return 0, errdefs.InvalidArgument("send stream: a window of %d", m.GetUpdate())
	}
	return int64(m.GetUpdate()), nil
}

// Write implements io.Writer. It waits for the receiver, until the stream ends.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		room, err := w.room()
		if err != nil {
			return n, err
		}
		piece := p[:min(int64(len(p)), room, chunk)]
		a, err := typeurl.MarshalAny(&transferapi.Data{Data: piece})
		if err != nil {
			return n, err
		}
		if err := w.s.Send(a); err != nil {
			return n, fmt.Errorf("send stream: %w", err)
		}
		w.mu.Lock()
		w.left -= int64(len(piece))
		w.mu.Unlock()
		n += len(piece)
		p = p[len(piece):]
	}
	return n, nil
}

// room waits until something may be sent.
func (w *Writer) room() (int64, error) {
	for {
		w.mu.Lock()
		left, err := w.left, w.err
		w.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if left > 0 {
			return left, nil
		}
		<-w.granted
	}
}

// Close says that nothing more comes.
func (w *Writer) Close() error { return w.s.Close() }
