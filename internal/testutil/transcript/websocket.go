package transcript

import (
	"bufio"
	"io"
	"strconv"
)

// Of RFC 6455, section 5.2: a frame's second byte is the length, up to the one that says
// that it stands behind.
const (
	frameHead    = 2
	longestShort = 125
	opcode       = 0x0f
	closing      = 0x8
)

// closed is a client's frame that ends the connection: masked, with nothing.
var closed = []byte{0x80 | closing, 0x80, 0, 0, 0, 0}

// webSocket shows the server's frames, a line each, and answers the one that closes. A
// long one, which no transcript needs, ends the reading.
func webSocket(w io.Writer, br *bufio.Reader) (out []string, err error) {
	for {
		head, err := br.Peek(frameHead)
		if err != nil {
			return out, err
		}
		if head[1] > longestShort {
			return append(out, strconv.Quote(string(head))), nil
		}
		frame := make([]byte, frameHead+int(head[1]))
		if _, err := io.ReadFull(br, frame); err != nil {
			return out, err
		}
		out = append(out, strconv.Quote(string(frame)))
		if frame[0]&opcode == closing {
			_, err := w.Write(closed)
			return out, err
		}
	}
}
