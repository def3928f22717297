package output

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

func TestBufferUnread(t *testing.T) {
	big := strings.Repeat("0123456789abcde\n", 16<<10)
	for _, tc := range []struct {
		name string
		keep bool
		text string
		want string
		from *shimwire.Position
		gaps int
	}{
		{"kept", true, "hello", "hello", nil, 0},
		{"not kept", false, "hello", "", nil, 0},
		{"the last of much", true, big, big[len(big)-held:], nil, 0},
		{"from a place that has gone", true, big, big[len(big)-held:], &shimwire.Position{Offset: 16}, 1},
		{"from the beginning of what there is", true, big, big[len(big)-held:], &shimwire.Position{}, 0},
		{"from the end", true, "hello", "", &shimwire.Position{Offset: 5}, 0},
		{"from the middle", true, "hello", "llo", &shimwire.Position{Offset: 2}, 0},
	} {
		b := NewBuffer(tc.keep)
		b.Write(logfile.Stdout, []byte(tc.text))
		b.End()
		h := both
		h.From = tc.from
		g := take(t, b.NewReader(h), nil)
		if g.streams[1].String() != tc.want || g.gaps != tc.gaps || !g.ended {
			t.Errorf("%s: got %d bytes, %d gaps, ended %v", tc.name, g.streams[1].Len(), g.gaps, g.ended)
		}
	}
}

// TestBufferPace pins that readers get everything at their own pace, and that
// one who leaves does not hold up the process.
func TestBufferPace(t *testing.T) {
	b := NewBuffer(false)
	slow, errs, quitter := b.NewReader(both), b.NewReader(shimwire.Hello{Stderr: true}), b.NewReader(both)
	var want bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 1000 {
			p := bytes.Repeat([]byte{byte(i)}, 1000)
			want.Write(p)
			b.Write(logfile.Stdout, p)
		}
		b.Write(logfile.Stderr, []byte("oops"))
		b.End()
	})
	wg.Go(func() { take(t, quitter, func(g *got) bool { return g.streams[1].Len() > 5000 }) })
	wg.Go(func() {
		if g := take(t, errs, nil); g.streams[1].Len() > 0 || g.streams[2].String() != "oops" || !g.ended {
			t.Errorf("a reader of stderr got %d bytes and %q", g.streams[1].Len(), g.streams[2].String())
		}
	})
	g := take(t, slow, nil)
	wg.Wait()
	if !bytes.Equal(g.streams[1].Bytes(), want.Bytes()) || g.gaps > 0 || !g.ended {
		t.Errorf("got %d bytes of %d, %d gaps", g.streams[1].Len(), want.Len(), g.gaps)
	}
}

// TestBufferLeave pins that what a reader of an exec has not got waits for the next.
func TestBufferLeave(t *testing.T) {
	b := NewBuffer(true)
	first := b.NewReader(both)
	b.Write(logfile.Stdout, []byte("unread"))
	first.Close()
	if _, err := first.Next(nil); err == nil {
		t.Error("a closed reader gives more")
	}
	b.End()
	if g := take(t, b.NewReader(both), nil); g.streams[1].String() != "unread" {
		t.Errorf("got %q", g.streams[1].String())
	}
}

// TestBufferExited: what a process leaves behind waits for no reader, up to a bound, and
// the reader gets it all the same.
func TestBufferExited(t *testing.T) {
	b := NewBuffer(false)
	slow := b.NewReader(both)
	blocked := make(chan struct{})
	text := bytes.Repeat([]byte("0123456789abcde\n"), 16<<10) // 256 KiB
	go func() {
		b.Write(logfile.Stdout, text) // as much as is in a pipe, and before it
		close(blocked)
	}()
	select {
	case <-blocked:
		t.Error("a reader does not set the pace")
	case <-time.After(10 * time.Millisecond):
	}
	b.Exited()
	<-blocked
	more := make(chan struct{})
	go func() {
		b.Write(logfile.Stdout, bytes.Repeat(text, 2))
		close(more)
	}()
	select {
	case <-more:
		t.Error("there is no bound")
	case <-time.After(10 * time.Millisecond):
	}
	go func() { <-more; b.End() }()
	if g := take(t, slow, nil); !bytes.Equal(g.streams[1].Bytes(), bytes.Repeat(text, 3)) || g.gaps > 0 || !g.ended {
		t.Errorf("got %d bytes, %d gaps, ended %v", g.streams[1].Len(), g.gaps, g.ended)
	}
}
