package gelf

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"fmt"
	"io"
	"strconv"
)

// A datagram is at most chunkSize bytes; a larger message is cut into at most maxChunks,
// each after the magic bytes, the message's id, its own number and how many there are.
const (
	chunkSize = 1420
	chunkHead = 12
	chunkData = chunkSize - chunkHead
	maxChunks = 128
)

// compressor is what gzip and zlib have in common.
type compressor interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// packer makes datagrams of messages.
type packer struct {
	compress compressor // nil does not
	buf      bytes.Buffer
}

func newPacker(kind, level string) (*packer, error) {
	n := flate.BestSpeed
	if level != "" {
		var err error
		if n, err = strconv.Atoi(level); err != nil {
			return nil, fmt.Errorf("gelf: invalid compression level %s, err %w", level, err)
		}
	}
	p := &packer{}
	var err error
	switch kind {
	case "", "gzip":
		p.compress, err = gzip.NewWriterLevel(&p.buf, n)
	case "zlib":
		p.compress, err = zlib.NewWriterLevel(&p.buf, n)
	case "none":
	default:
		err = fmt.Errorf("gelf: invalid compression type %q", kind)
	}
	return p, err
}

// pack returns the datagrams of a message, which are valid until the next call.
func (p *packer) pack(message []byte) ([][]byte, error) {
	if p.compress != nil {
		p.buf.Reset()
		p.compress.Reset(&p.buf)
		p.compress.Write(message) //nolint:errcheck // into memory
		p.compress.Close()
		message = p.buf.Bytes()
	}
	if len(message) <= chunkSize {
		return [][]byte{message}, nil
	}
	count := (len(message) + chunkData - 1) / chunkData
	if count > maxChunks {
		return nil, fmt.Errorf("msg too large, would need %d chunks", count)
	}
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck // never fails
	out := make([][]byte, 0, count)
	for i := range count {
		data := message[i*chunkData:]
		data = data[:min(len(data), chunkData)]
		d := append([]byte{0x1e, 0x0f}, id[:]...)
		out = append(out, append(append(d, byte(i), byte(count)), data...))
	}
	return out, nil
}
