package output

import (
	"fmt"
	"strings"
	"testing"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// TestGapCounts pins what a reader of lines is told who comes back to a position whose
// file has gone: that there is a gap, how many lines lie before where it goes on, and
// nothing of a gap where there is none.
func TestGapCounts(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{MaxSize: 400, MaxFile: 2})
	write := func(from, to int) {
		for i := from; i < to; i++ {
			if err := l.Write(logfile.Stdout, fmt.Appendf(nil, "line %d\n", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// positions after each of the first lines, in whatever file
	var after []shimwire.Position
	first := readLines(l, nil)
	for i := range 20 {
		write(i, i+1)
		frame := first.next(t)
		after = append(after, frame.Pos)
	}
	first.Close()
	write(20, 100)
	for i, pos := range after {
		r := readLines(l, &pos)
		f := r.next(t)
		if f.Kind != shimwire.Gap {
			t.Fatalf("after line %d comes %q and no gap", i, f.Data)
		}
		n, counted := f.First()
		data := r.next(t)
		if want := fmt.Sprintf("line %d\n", n); !counted || string(data.Data) != want {
			t.Errorf("a gap to line %d (counted %v), and %q comes", n, counted, data.Data)
		}
		r.Close()
	}

	// The end of a file that has gone is no gap.
	m := openTestLog(t, shimwire.LogURI{MaxSize: 50, MaxFile: 1}) // a file for each line
	r := readLines(m, nil)
	one := []byte(strings.Repeat("x", 60) + "\n")
	m.Write(logfile.Stdout, one)
	pos := r.next(t).Pos
	r.Close()
	m.Write(logfile.Stdout, one)
	r = readLines(m, &pos)
	if f := r.next(t); f.Kind != shimwire.Data {
		t.Errorf("a frame of kind %#x where nothing is missing", uint8(f.Kind))
	}
	r.Close()
}

// stepper takes a reader's frames one by one.
type stepper struct {
	Reader
	rest []byte
}

func readLines(l *Log, from *shimwire.Position) *stepper {
	return &stepper{Reader: l.NewReader(shimwire.Hello{Stdout: true, Lines: true, From: from})}
}

func (s *stepper) next(t *testing.T) shimwire.Frame {
	t.Helper()
	if len(s.rest) == 0 {
		var err error
		if s.rest, err = s.Next(nil); err != nil {
			t.Fatal(err)
		}
	}
	f, n, err := shimwire.Decode(s.rest)
	if err != nil {
		t.Fatal(err)
	}
	s.rest = s.rest[n:]
	return f
}
