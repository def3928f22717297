package rest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Stream numbers a stream inside a framed connection.
//
// A frame is one byte of Stream, three zero bytes, the length of the payload as
// four bytes big-endian, and the payload. Docker API: POST /containers/{id}/attach.
type Stream byte

// The streams of a frame. SystemErr carries errors of the daemon itself.
const (
	Stdin Stream = iota
	Stdout
	Stderr
	SystemErr
)

const frameHeader = 8

// Framer writes frames of several streams to one connection, each whole, in one
// write. It is safe for concurrent use.
type Framer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte // guarded by mu; one frame
}

// maxKeptFrame bounds the buffer kept between frames.
const maxKeptFrame = 64 << 10

// NewFramer returns a framer on w.
func NewFramer(w io.Writer) *Framer { return &Framer{w: w} }

// Stream returns the writer of one stream. Each Write becomes one frame; an empty
// one is not sent.
func (f *Framer) Stream(s Stream) io.Writer { return frameWriter{f, s} }

type frameWriter struct {
	f *Framer
	s Stream
}

func (w frameWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	buf := append(w.f.buf[:0], byte(w.s), 0, 0, 0)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(p)))
	buf = append(buf, p...)
	n, err := w.f.w.Write(buf)
	if cap(buf) <= maxKeptFrame {
		w.f.buf = buf
	}
	return max(0, n-frameHeader), err
}

// Frame is one decoded frame.
type Frame struct {
	Stream Stream
	Data   []byte
}

// ErrFrame is what ReadFrame returns for bytes that are no frame.
var ErrFrame = errors.New("bad stream frame")

// ReadFrame reads one frame of at most limit bytes of payload; io.EOF between frames.
func ReadFrame(r io.Reader, limit int) (Frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	if Stream(head[0]) > SystemErr || head[1]|head[2]|head[3] != 0 {
		return Frame{}, fmt.Errorf("%w: header % x", ErrFrame, head)
	}
	n := binary.BigEndian.Uint32(head[4:])
	if int64(n) > int64(limit) {
		return Frame{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrFrame, n, limit)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return Frame{}, fmt.Errorf("stream frame: %w", noEOF(err))
	}
	return Frame{Stream(head[0]), data}, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
