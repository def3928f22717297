package image

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// TestPackWritesLargePieces: what a layer is packed into is a call a piece on another's core.
func TestPackWritesLargePieces(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	plain := make([]byte, 2<<20)
	for i := range plain {
		plain[i] = byte(source.Uint32() & 0x3f)
	}
	var w pieces
	if err := pack(&w, bytes.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	if w.n > 16 {
		t.Errorf("%d bytes in %d pieces", w.Len(), w.n)
	}
	zr, err := gzip.NewReader(&w.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(zr); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unpacked are %d bytes, %v", len(got), err)
	}
}

// pieces counts what is written to it.
type pieces struct {
	bytes.Buffer
	n int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.n++
	return p.Buffer.Write(b)
}
