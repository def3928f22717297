package hooks

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// keepOutput is how much of the end of a hook's output errors carry.
	keepOutput = 4 << 10
	// lingering is how long after a hook's end what it left behind may hold its
	// output open.
	lingering = 200 * time.Millisecond
)

// stdio is a hook's input and output. Both of its goroutines end with end or
// close.
type stdio struct {
	in, out   *os.File // the hook's ends
	feed, got *os.File // ours
	work      sync.WaitGroup
	tail      tail
}

func newStdio() (*stdio, error) {
	var s stdio
	var err error
	if s.in, s.feed, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if s.got, s.out, err = os.Pipe(); err != nil {
		s.close()
		return nil, fmt.Errorf("pipe: %w", err)
	}
	return &s, nil
}

// begin lets go of the hook's ends and starts the copies.
func (s *stdio) begin(input []byte) {
	s.in.Close()
	s.out.Close()
	s.work.Go(func() {
		s.feed.Write(input) // a hook need not read it
		s.feed.Close()
	})
	s.work.Go(func() { io.Copy(&s.tail, s.got) })
}

// end waits for the copies and returns the end of the output, as one line.
func (s *stdio) end() string {
	s.feed.SetWriteDeadline(time.Now())
	s.got.SetReadDeadline(time.Now().Add(lingering))
	s.work.Wait()
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(s.tail.b), "?")), " ")
}

func (s *stdio) close() {
	for _, f := range []*os.File{s.in, s.out, s.feed, s.got} {
		if f != nil {
			f.Close()
		}
	}
	s.work.Wait()
}

// tail keeps the last keepOutput bytes.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - keepOutput; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}
