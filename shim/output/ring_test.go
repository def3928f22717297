package output

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// taken waits until the goroutine has taken all there is.
func taken(r *Ring) {
	for {
		r.mu.Lock()
		n := len(r.queue)
		r.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestRing pins that a log which takes nothing does not hold up who writes, that whole
// lines are dropped and counted, and that what was taken comes.
func TestRing(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	var lines, bytes atomic.Int64
	l.host.Warn = func(_ string, args ...any) {
		lines.Add(args[1].(int64))
		bytes.Add(args[3].(int64))
	}
	r := newRing(l, 100)
	l.lane.Lock() // as a file system that does not answer
	write := func(s logfile.Stream, text string) {
		if err := r.Write(s, []byte(text)); err != nil {
			t.Error(err)
		}
	}
	write(logfile.Stdout, "at hand\n")
	taken(r)
	for i := range 20 {
		write(logfile.Stdout, fmt.Sprintf("line %04d\n", i))
	}
	write(logfile.Stderr, "part")
	write(logfile.Stdout, " of a line\n")
	l.lane.Unlock()
	taken(r)
	write(logfile.Stdout, "after\n")
	write(logfile.Stderr, " and its end\nnext\n")
	r.End()
	got := strings.Join(entries(t, l.path), "")
	want := "stdout at hand\n"
	for i := range 10 {
		want += fmt.Sprintf("stdout line %04d\n", i)
	}
	want += "stdout after\nstderr next\n"
	if got != want {
		t.Errorf("got %q", got)
	}
	if lines.Load() != 12 || bytes.Load() != int64(10*10+4+11+13) {
		t.Errorf("told of %d lines and %d bytes", lines.Load(), bytes.Load())
	}
}

// TestRingCutsLine pins that a line which loses its end does not run into the next.
func TestRingCutsLine(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	r := newRing(l, 10)
	l.lane.Lock()
	r.Write(logfile.Stdout, []byte("x\n"))
	taken(r)
	r.Write(logfile.Stdout, []byte("begun, "))
	r.Write(logfile.Stdout, []byte("cut"))
	r.Write(logfile.Stdout, []byte(" cut again"))
	l.lane.Unlock()
	taken(r)
	r.Write(logfile.Stdout, []byte("cut\nwhole\n"))
	r.End()
	if got := strings.Join(entries(t, l.path), ""); got != "stdout x\nstdout begun, cut\nstdout whole\n" {
		t.Errorf("got %q", got)
	}
}

// TestRingOpen pins what a log URI leads to.
func TestRingOpen(t *testing.T) {
	path := t.TempDir() + "/log"
	for _, tt := range []struct {
		u    shimwire.LogURI
		want string
	}{
		{shimwire.LogURI{Path: path}, "*output.Log"},
		{shimwire.LogURI{Path: path, NonBlocking: true, Buffer: 1}, "*output.Ring"},
		{shimwire.LogURI{Driver: shimwire.DriverNone, NonBlocking: true}, "*output.Buffer"},
	} {
		out, err := Open(tt.u, Host{})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(logfile.Stdout, []byte("x\n"))
		out.End()
		out.Close()
		if got := fmt.Sprintf("%T", out); got != tt.want {
			t.Errorf("%+v: %s", tt.u, got)
		}
	}
}

// TestRingSmallPieces pins that what is written byte by byte has a bound too.
func TestRingSmallPieces(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	l.host.Warn = func(string, ...any) {}
	r := newRing(l, 1<<20)
	l.lane.Lock()
	for range 1 << 18 {
		if err := r.Write(logfile.Stdout, []byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	n := len(r.queue)
	r.mu.Unlock()
	l.lane.Unlock()
	if n > 1<<16 {
		t.Errorf("%d pieces wait", n)
	}
	r.End()
}
