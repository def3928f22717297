package diff

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/compression"
	"gantry/api/errdefs"
)

// decompress looks at the first bytes and returns the plain stream. Layers are packed with
// gzip or zstd; what is packed with anything else is no tar.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	kind, err := compression.Peek(br)
	if err != nil {
		return nil, err
	}
	switch kind {
	case compression.Gzip:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, errdefs.InvalidArgument("read gzip header: %w", err)
		}
		return z, nil
	case compression.Zstd:
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(compression.MaxWindow), zstd.WithDecoderLowmem(true))
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
