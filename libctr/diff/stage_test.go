package diff

import (
	"bytes"
	"errors"
	"testing"
)

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestStage(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // several buffers and a part
	var got bytes.Buffer
	s := newStage(&got)
	for rest := want; len(rest) > 0; {
		n, err := s.Write(rest[:min(len(rest), 70_001)])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes of %d have come through: %v", got.Len(), len(want), err)
	}
}

// TestStageFails: an error behind ends the writer in front, soon, and Close tells it.
func TestStageFails(t *testing.T) {
	full := errors.New("full")
	s := newStage(writerFunc(func([]byte) (int, error) { return 0, full }))
	var err error
	for range 100 {
		if _, err = s.Write(make([]byte, aheadChunk)); err != nil {
			break
		}
	}
	if !errors.Is(err, full) || !errors.Is(s.Close(), full) {
		t.Errorf("write: %v, close: %v", err, s.Close())
	}
}
