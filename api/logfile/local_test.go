package logfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
)

// TestLocalOfDocker reads what Docker's local driver has written, and pins that we write
// the same bytes, but for the id of a line in parts, which is ours.
func TestLocalOfDocker(t *testing.T) {
	docker, err := os.ReadFile("testdata/docker-local.log")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := decodeLocal(docker)
	want := []string{
		`stdout "hello\n" true`, `stderr "\n" true`, `stdout "long " true`, `stdout "and " true`,
		`stdout "longer\n" true`, `stderr "\xff\x00\n" true`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
	enc, err := logfile.Local.NewEncoder(map[string]string{"no": "room"})
	if err != nil {
		t.Fatal(err)
	}
	var ours []byte
	for _, line := range []string{"1hello\n", "2\n", "1long ", "1and ", "1longer\n", "2\xff\x00\n"} {
		ours = enc.Append(ours, logfile.Stream(line[0]-'0'), at, []byte(line[1:]))
	}
	id := strconv.FormatUint(uint64(at.UnixNano())|1<<63, 16)
	if !bytes.Equal(bytes.ReplaceAll(ours, []byte(id), []byte("0123456789abcdef")), docker) {
		t.Errorf("got %q, want %q", ours, docker)
	}
}

// message is an entry as Docker writes it, of stdout and at the usual time.
func message(text string, partial, last bool) []byte {
	b := append([]byte{0x0a, 6}, "stdout"...)
	b = binary.AppendUvarint(append(b, 0x10), uint64(at.UnixNano()))
	b = append(binary.AppendUvarint(append(b, 0x1a), uint64(len(text))), text...)
	if partial {
		b = append(b, 0x20, 1, 0x2a, 68, 0x12, 64)
		b = append(append(b, strings.Repeat("f", 64)...), 0x18, 1)
	}
	if last {
		b = append(b[:len(b)-68-1], append([]byte{70, 0x08, 1}, b[len(b)-68:]...)...)
	}
	n := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	return bytes.Join([][]byte{n, b, n}, nil)
}

func decodeLocal(file []byte) (out []string, end int64) {
	d := logfile.Local.NewDecoder(trickle{bytes.NewReader(file)}, 0)
	for e := (logfile.Entry{}); d.Next(&e) == nil; {
		out = append(out, fmt.Sprintf("%s %q %v", e.Stream, e.Line, e.Time.Equal(at)))
	}
	return out, d.Offset()
}

// trickle gives a few bytes at a time.
type trickle struct{ r io.Reader }

func (h trickle) Read(p []byte) (int, error) { return h.r.Read(p[:min(len(p), 7)]) }

// TestLocalDamage reads on behind what is no entry.
func TestLocalDamage(t *testing.T) {
	line := func(text string) []byte { return message(text, false, false) }
	part := func(text string, last bool) []byte { return message(text, true, last) }
	torn := line("torn")
	long := bytes.Repeat([]byte("x"), 2<<20)
	for _, tt := range []struct {
		name string
		file [][]byte
		want []string
		left int // bytes at the end that are no entry
	}{
		{"lines", [][]byte{line("a"), line(""), part("b", false), part("c", true)}, []string{`stdout "a\n" true`, `stdout "\n" true`, `stdout "b" true`, `stdout "c\n" true`}, 0},
		{"zeros", [][]byte{line("a"), make([]byte, 5000), line("b")}, []string{`stdout "a\n" true`, `stdout "b\n" true`}, 0},
		{"torn between", [][]byte{torn[:len(torn)-3], line("b"), line("c")}, []string{`stdout "b\n" true`, `stdout "c\n" true`}, 0},
		{"torn at the end", [][]byte{line("a"), torn[:len(torn)-1]}, []string{`stdout "a\n" true`}, len(torn) - 1},
		{"a line with an entry in it", [][]byte{line(string(line("x"))), line("b")}, []string{fmt.Sprintf("stdout %q true", append(line("x"), '\n')), `stdout "b\n" true`}, 0},
		{"far too long", [][]byte{line(string(long)), line("b")}, []string{`stdout "b\n" true`}, 0},
		{"nothing", nil, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := bytes.Join(tt.file, nil)
			got, end := decodeLocal(file)
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") || int64(len(file))-end != int64(tt.left) {
				t.Errorf("got %q, ended at %d of %d", got, end, len(file))
			}
			if whole, err := logfile.Local.End(bytes.NewReader(file), int64(len(file))); err != nil || whole != int64(len(file)-tt.left) {
				t.Errorf("whole up to %d of %d, %v", whole, len(file), err)
			}
			for n := range len(tt.want) + 2 {
				off, found, err := logfile.Local.Tail(bytes.NewReader(file), int64(len(file)), n)
				rest, _ := decodeLocal(file[off:])
				if want := min(n, len(tt.want)); err != nil || found != want || n > 0 && len(rest) != want {
					t.Errorf("last %d: %d found at %d, %q, %v", n, found, off, rest, err)
				}
			}
		})
	}
}

func TestLocalTail(t *testing.T) {
	enc, _ := logfile.Local.NewEncoder(nil)
	var file []byte
	var at []int64
	for i := range 30000 {
		at = append(at, int64(len(file)))
		file = enc.Append(file, logfile.Stdout, time.Unix(int64(i), 1), fmt.Appendf(nil, "%0*d\n", i%50, i))
	}
	for _, n := range []int{1, 2, 999, 29999, 30000, 30001} {
		off, found, err := logfile.Local.Tail(bytes.NewReader(file), int64(len(file)), n)
		if want := at[max(0, 30000-n)]; err != nil || off != want || found != min(n, 30000) {
			t.Errorf("last %d: %d at %d, want %d, %v", n, found, off, want, err)
		}
	}
}

func FuzzLocalDecoder(f *testing.F) {
	enc, _ := logfile.Local.NewEncoder(nil)
	f.Add(enc.Append(nil, logfile.Stdout, at, []byte("hello\n")))
	f.Add(enc.Append(nil, logfile.Stderr, at, []byte("part")))
	f.Fuzz(func(t *testing.T, file []byte) {
		d := logfile.Local.NewDecoder(bytes.NewReader(file), 0)
		var e logfile.Entry
		n := 0
		for last := int64(0); d.Next(&e) == nil; last, n = d.Offset(), n+1 {
			if d.Offset() <= last || d.Offset() > int64(len(file)) {
				t.Fatalf("offset %d after %d", d.Offset(), last)
			}
		}
		for _, k := range []int{0, 1, n, n + 1} {
			if off, _, err := logfile.Local.Tail(bytes.NewReader(file), int64(len(file)), k); err != nil || off < 0 || off > int64(len(file)) {
				t.Fatalf("last %d at %d: %v", k, off, err)
			}
		}
	})
}

// FuzzLocalRoundTrip pins that any bytes come back, in any number of pieces.
func FuzzLocalRoundTrip(f *testing.F) {
	f.Add([]byte("hello\n"), []byte("\xff\n\x0a\x06std"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		enc, _ := logfile.Local.NewEncoder(nil)
		var file []byte
		want := [3][]byte{1: a, 2: b}
		for s, text := range want {
			for text := range bytes.Lines(text) {
				for len(text) > 0 {
					n := min(5, len(text))
					file = enc.Append(file, logfile.Stream(s), at, text[:n])
					text = text[n:]
				}
			}
		}
		var got [3][]byte
		d := logfile.Local.NewDecoder(bytes.NewReader(file), 0)
		var e logfile.Entry
		err := d.Next(&e)
		for ; err == nil; err = d.Next(&e) {
			got[e.Stream] = append(got[e.Stream], e.Line...)
		}
		if !errors.Is(err, io.EOF) || d.Offset() != int64(len(file)) || logfile.Local.Whole(file) != len(file) {
			t.Fatalf("ended at %d of %d: %v", d.Offset(), len(file), err)
		}
		if !bytes.Equal(got[1], a) || !bytes.Equal(got[2], b) {
			t.Fatalf("%q and %q came back as %q and %q", a, b, got[1], got[2])
		}
	})
}

func TestLocalAllocates(t *testing.T) {
	enc, _ := logfile.Local.NewEncoder(nil)
	dst, line := make([]byte, 0, 4096), []byte("some line\n")
	if n := testing.AllocsPerRun(100, func() { enc.Append(dst, logfile.Stdout, at, line) }); n > 0 {
		t.Errorf("%v allocations for a line", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, f := range []logfile.Format{logfile.JSON, logfile.Local} {
		b.Run(f.String(), func(b *testing.B) {
			enc, _ := f.NewEncoder(nil)
			var file []byte
			for range 10000 {
				file = enc.Append(file, logfile.Stdout, at, []byte(strings.Repeat("a", 63)+"\n"))
			}
			b.SetBytes(640000)
			for b.Loop() {
				d := f.NewDecoder(bytes.NewReader(file), 0)
				for e := (logfile.Entry{}); d.Next(&e) == nil; {
				}
			}
		})
	}
}
