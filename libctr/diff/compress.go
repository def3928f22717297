package diff

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
)

// maxWindow bounds the memory that a zstd blob may ask for, in bytes.
const maxWindow = 128 << 20

var (
	magicGzip = []byte{0x1f, 0x8b, 0x08}
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// skippable says whether a zstd stream starts with a skippable frame (0x184d2a50
// to 5f, little endian).
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
}

// decompress looks at the first bytes and returns the plain stream.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, errdefs.InvalidArgument("read gzip header: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(head, magicZstd), skippable(head):
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("read zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

// compressor returns the writer for a layer of this media type; Close ends the
// compressed stream, not w.
func compressor(w io.Writer, mediaType string) (io.WriteCloser, error) {
	switch {
	case !isLayer(mediaType):
		return nil, errdefs.NotImplemented("media type %q: %w", mediaType, errUnknownCompression)
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".gzip"):
		return gzip.NewWriter(w), nil
	case strings.HasSuffix(mediaType, "+zstd"), strings.HasSuffix(mediaType, ".zstd"):
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) // deterministic
	}
	return nopWriteCloser{w}, nil
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }

// defaultMediaType is what Compare makes when it is not told.
const defaultMediaType = ocispec.MediaTypeImageLayerGzip
