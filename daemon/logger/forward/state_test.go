package forward

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
)

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forwarded")
	s, p, err := openState(path)
	if err != nil || p != (progress{}) {
		t.Fatalf("a new one tells %+v, %v", p, err)
	}
	want := progress{
		pos: logfile.Position{Generation: 1 << 60, Offset: 12345}, index: 77,
		lines: [2]line{{at: 5, pieces: 2}, {at: -1, pieces: 9}},
	}
	full := want
	full.last, full.lost.rotated = time.Now(), 3 // what is not kept
	if err := s.save(full); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, p, err = openState(path); err != nil || p != want {
		t.Errorf("got %+v, %v, want %+v", p, err, want)
	}
	s.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		bad := append([]byte(nil), raw...)
		bad[i] ^= 1
		if _, err := decodeState(bad); err == nil {
			t.Errorf("a wrong byte %d is not noticed", i)
		}
	}
	if _, err := decodeState(raw[:len(raw)-1]); err == nil {
		t.Error("a torn one is not noticed")
	}
}

// TestParts reads a long line, one that never ends, and whole ones, with the state saved
// in the middle.
func TestParts(t *testing.T) {
	at := time.Unix(7, 0)
	var p progress
	part := func(s logfile.Stream, at time.Time, ends bool) target.Part {
		if part := p.part("c", s, at, ends); part != nil {
			return *part
		}
		return target.Part{}
	}
	if got := part(logfile.Stdout, at, true); got != (target.Part{}) {
		t.Errorf("a whole line is %+v", got)
	}
	first := part(logfile.Stdout, at, false)
	if first.Ordinal != 1 || first.Last || len(first.ID) != 64 {
		t.Errorf("first piece %+v", first)
	}
	if got := part(logfile.Stderr, at, false); got.ID == first.ID || got.Ordinal != 1 {
		t.Errorf("the other stream's piece %+v", got)
	}
	var err error
	if p, err = decodeState(p.encode()); err != nil {
		t.Fatal(err)
	}
	if got := part(logfile.Stdout, at, true); got != (target.Part{ID: first.ID, Ordinal: 2, Last: true}) {
		t.Errorf("last piece %+v", got)
	}
	if got := part(logfile.Stderr, at.Add(time.Second), true); got != (target.Part{}) {
		t.Errorf("a whole line after one that never ended is %+v", got)
	}
}

func TestBackOff(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name string
		pace target.Pace
		want []time.Duration // of attempts 0, 1, 2, 3, 20
	}{
		{"default", target.Pace{}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 30 * time.Second}},
		{"with a first", target.Pace{First: time.Second}, []time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 30 * time.Second}},
		{"with tries", target.Pace{First: time.Second, Tries: 2}, []time.Duration{1000 * ms, 1000 * ms, 1000 * ms, 2000 * ms, 30 * time.Second}},
		{"slow", target.Pace{First: time.Minute}, []time.Duration{time.Minute, time.Minute, time.Minute, time.Minute, time.Minute}},
	} {
		for i, n := range []int{0, 1, 2, 3, 20} {
			if got := backOff(tt.pace, n); got != tt.want[i] {
				t.Errorf("%s: wait %d is %v, want %v", tt.name, n, got, tt.want[i])
			}
		}
	}
}
