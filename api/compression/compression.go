// Package compression reads what archives and layers are packed with. All of it is
// done in this process; no helper program is started.
package compression

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Kind is how a stream is packed.
type Kind uint8

const (
	None Kind = iota
	Gzip
	Zstd
	Xz
	Bzip2
)

func (k Kind) String() string {
	return [...]string{"none", "gzip", "zstd", "xz", "bzip2"}[k]
}

// Bounds of a decoder's memory, in bytes.
const (
	MaxWindow     = 128 << 20 // of zstd: what `zstd --ultra` makes at most without --long
	maxDictionary = 64 << 20  // of xz: what `xz -9` makes
)

// peekSize is how many bytes Detect wants to see.
const peekSize = 10

var magics = []struct {
	kind  Kind
	magic []byte
}{
	{Gzip, []byte{0x1f, 0x8b, 0x08}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Xz, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
	{Bzip2, []byte("BZh")},
}

// Detect tells the kind from a stream's beginning.
func Detect(head []byte) Kind {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.kind
		}
	}
	// A zstd stream may begin with a skippable frame, magic 0x184D2A50 to 5F.
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}) {
		return Zstd
	}
	return None
}

// Peek tells the kind of what r will yield, without taking any of it.
func Peek(r *bufio.Reader) (Kind, error) {
	head, err := r.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return None, err
	}
	return Detect(head), nil
}

// Reader unpacks r, whatever its kind; a plain stream passes through. Close frees the
// decoder and leaves r open.
func Reader(r io.Reader) (io.ReadCloser, Kind, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	kind, err := Peek(br)
	if err != nil {
		return nil, None, err
	}
	rc, err := open(br, kind)
	if err != nil {
		return nil, kind, fmt.Errorf("open %s stream: %w", kind, err)
	}
	return rc, kind, nil
}

func open(r *bufio.Reader, kind Kind) (io.ReadCloser, error) {
	switch kind {
	case Gzip:
		return gzip.NewReader(r)
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Xz:
		x, err := xz.NewReader(r, maxDictionary)
		return io.NopCloser(x), err
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return io.NopCloser(r), nil
}
