package shimwire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"gantry/api/errdefs"
	"gantry/api/logfile"
)

const (
	headerSize   = 8
	positionSize = 24
	dataHead     = positionSize + 8
	// MaxBody bounds the body of a frame in bytes.
	MaxBody = 128 << 10
)

// AppendData appends a Data frame to dst.
func AppendData(dst []byte, f Frame) []byte {
	dst = appendHeader(dst, Data, uint8(f.Stream), dataHead+len(f.Data))
	dst = appendPosition(dst, f.Pos)
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.Time.UnixNano()))
	return append(dst, f.Data...)
}

// AppendMark appends a Gap or End frame to dst.
func AppendMark(dst []byte, kind Kind, pos Position) []byte {
	return appendPosition(appendHeader(dst, kind, 0, positionSize), pos)
}

// AppendGap appends a Gap frame to dst for a reader of lines, who is told that first
// entries of the log come before the position. That has the place of Skip, of which such
// a reader has no use.
func AppendGap(dst []byte, pos Position, first uint64) []byte {
	first++ // 0 is not known
	pos.Skip = [2]uint32{uint32(first >> 32), uint32(first)}
	return AppendMark(dst, Gap, pos)
}

// First is what a Gap frame tells a reader of lines: how many entries of the log come
// before its position; false when nobody has counted them.
func (f Frame) First() (n uint64, counted bool) {
	n = uint64(f.Pos.Skip[0])<<32 | uint64(f.Pos.Skip[1])
	if f.Kind != Gap || n == 0 {
		return 0, false
	}
	return n - 1, true
}

// AppendWelcome appends the answer to a Hello to dst.
func AppendWelcome(dst []byte, pos Position) []byte {
	return appendPosition(appendHeader(dst, kindWelcome, 0, positionSize), pos)
}

// AppendResult appends OK, or the Error frame for err, to dst.
func AppendResult(dst []byte, err error) []byte {
	if err == nil {
		return appendHeader(dst, kindOK, 0, 0)
	}
	e := wireError{Text: err.Error()}
	for _, class := range classes {
		if errors.Is(err, class) {
			e.Class = class.Error()
			break
		}
	}
	body, _ := json.Marshal(e) // strings always marshal
	if len(body) > MaxBody {
		body, _ = json.Marshal(wireError{Class: e.Class, Text: "error text too long"})
	}
	return append(appendHeader(dst, kindError, 0, len(body)), body...)
}

// classes cross the socket by their text.
var classes = []error{
	errdefs.ErrNotFound, errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition,
	errdefs.ErrUnavailable, errdefs.ErrNotImplemented, errdefs.ErrAlreadyExists,
}

func decodeError(body []byte) error {
	var e wireError
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("shim sent a malformed error: %w", err)
	}
	for _, class := range classes {
		if e.Class == class.Error() {
			return errdefs.WithClass(class, errors.New(e.Text))
		}
	}
	return errors.New(e.Text)
}

func appendHeader(dst []byte, kind Kind, stream uint8, body int) []byte {
	dst = append(dst, byte(kind), stream, 0, 0)
	return binary.BigEndian.AppendUint32(dst, uint32(body))
}

func appendPosition(dst []byte, p Position) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Generation)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Offset))
	dst = binary.BigEndian.AppendUint32(dst, p.Skip[0])
	return binary.BigEndian.AppendUint32(dst, p.Skip[1])
}

func decodePosition(b []byte) Position {
	return Position{
		Generation: binary.BigEndian.Uint64(b),
		Offset:     int64(binary.BigEndian.Uint64(b[8:])),
		Skip:       [2]uint32{binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])},
	}
}

// raw is a frame as it stands on the wire.
type raw struct {
	kind   Kind
	stream uint8
	body   []byte
}

var errTooLong = errors.New("frame is too long")

// readRaw reads one frame; its body uses buf when that is large enough. A clean
// end before a frame is io.EOF.
func readRaw(r io.Reader, buf []byte) (raw, error) {
	if cap(buf) < headerSize {
		buf = make([]byte, 512)
	}
	head := buf[:headerSize]
	if _, err := io.ReadFull(r, head); err != nil {
		return raw{}, err
	}
	f := raw{kind: Kind(head[0]), stream: head[1]}
	n := int(binary.BigEndian.Uint32(head[4:]))
	if n > MaxBody {
		return raw{}, errTooLong
	}
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	f.body = buf[:n]
	if _, err := io.ReadFull(r, f.body); err != nil {
		return raw{}, noEOF(err)
	}
	return f, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Decode takes the first frame off b, as the shim's Append functions made it,
// and returns its length.
func Decode(b []byte) (f Frame, n int, err error) {
	r := bytes.NewReader(b)
	one, err := readRaw(r, nil)
	if err != nil {
		return Frame{}, 0, noEOF(err)
	}
	f, err = one.decode()
	return f, len(b) - r.Len(), err
}

// decode makes a Frame of what the shim sent.
func (f raw) decode() (Frame, error) {
	switch f.kind {
	case Data:
		if len(f.body) < dataHead || f.stream != uint8(logfile.Stdout) && f.stream != uint8(logfile.Stderr) {
			break
		}
		return Frame{
			Kind: Data, Stream: logfile.Stream(f.stream), Data: f.body[dataHead:],
			Pos:  decodePosition(f.body),
			Time: time.Unix(0, int64(binary.BigEndian.Uint64(f.body[positionSize:]))).UTC(),
		}, nil
	case Gap, End:
		if len(f.body) != positionSize {
			break
		}
		return Frame{Kind: f.kind, Pos: decodePosition(f.body)}, nil
	case kindError:
		return Frame{}, decodeError(f.body)
	}
	return Frame{}, fmt.Errorf("malformed frame of kind %#x from shim", uint8(f.kind))
}
