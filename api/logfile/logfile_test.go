package logfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
)

var at = time.Date(2024, 3, 9, 10, 11, 12, 130_000_000, time.FixedZone("", 3600))

// TestEncode pins the bytes that Docker's json-file driver writes.
func TestEncode(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		stream     logfile.Stream
		want       string
	}{
		{"plain", "hello\n", logfile.Stdout, `{"log":"hello\n","stream":"stdout","time":"2024-03-09T09:11:12.13Z"}`},
		{"stderr, partial", "hello", logfile.Stderr, `{"log":"hello","stream":"stderr","time":"2024-03-09T09:11:12.13Z"}`},
		{"escapes", "\"\\<>&\r\t\x00\x7f\u2028é\n", logfile.Stdout, `{"log":"\"\\\u003c\u003e\u0026\r\u0009\u0000` + "\x7f" + `\u2028é\n","stream":"stdout","time":"2024-03-09T09:11:12.13Z"}`},
		{"not utf-8", "a\xffb\n", logfile.Stdout, `{"log":"a\udcffb\n","stream":"stdout","time":"2024-03-09T09:11:12.13Z"}`},
	} {
		var e logfile.Encoder
		if got := string(e.Append(nil, tc.stream, at, []byte(tc.line))); got != tc.want+"\n" {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	e, err := logfile.JSON.NewEncoder(map[string]string{"b": "2", "a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"x\n","stream":"stderr","attrs":{"a":"1","b":"2"},"time":"2024-03-09T09:11:12.13Z"}` + "\n"
	if got := string(e.Append(nil, logfile.Stderr, at, []byte("x\n"))); got != want {
		t.Errorf("attrs: got %s, want %s", got, want)
	}
}

func TestEncodeAllocates(t *testing.T) {
	var e logfile.Encoder
	dst, line := make([]byte, 0, 4096), []byte("some line with a \"quote\"\n")
	if n := testing.AllocsPerRun(100, func() { e.Append(dst, logfile.Stdout, at, line) }); n > 0 {
		t.Errorf("%v allocations for a line", n)
	}
}

func decode(text string) (out []string) {
	d := logfile.JSON.NewDecoder(strings.NewReader(text), 0)
	for e := (logfile.Entry{}); d.Next(&e) == nil; {
		out = append(out, e.Stream.String()+"|"+string(e.Line)+"|"+string(e.Attrs)+"|"+e.Time.Format(time.RFC3339Nano))
	}
	return out
}

func TestDecode(t *testing.T) {
	const when = `"time":"2024-03-09T09:11:12.13Z"`
	for _, tc := range []struct{ name, file, want string }{
		{"docker's", `{"log":"hello\n","stream":"stdout",` + when + "}\n", "stdout|hello\n||2024-03-09T09:11:12.13Z"},
		{"docker's tag and labels", `{"log":"x\n","stream":"stderr","attrs":{"tag":"a,\"time\":\"b"},` + when + "}\n", `stderr|x` + "\n" + `|{"tag":"a,\"time\":\"b"}|2024-03-09T09:11:12.13Z`},
		{"other order and spaces", `{ "time":"2024-03-09T09:11:12.13Z", "stream":"stderr", "log":"x\u00e9\/\n" }` + "\n", "stderr|xé/\n||2024-03-09T09:11:12.13Z"},
		{"no log", `{"stream":"stdout",` + when + "}\n", "stdout|||2024-03-09T09:11:12.13Z"},
		{"pair of surrogates", `{"log":"\ud83d\ude00","stream":"stdout",` + when + "}\n", "stdout|\U0001F600||2024-03-09T09:11:12.13Z"},
		{"lone surrogates", `{"log":"\ud83dx\udcff\udfff","stream":"stdout",` + when + "}\n", "stdout|\uFFFDx\xff\uFFFD||2024-03-09T09:11:12.13Z"},
		{"damage between", "\x00\x00\n{\"log\":\n" + `{"log":"x","stream":"stdout",` + when + "}\n[]\n\n", "stdout|x||2024-03-09T09:11:12.13Z"},
		{"torn at the end", `{"log":"x","stream":"stdout",` + when + "}\n" + `{"log":"y","stream":"stdout",` + when + "}", "stdout|x||2024-03-09T09:11:12.13Z"},
		{"no time", `{"log":"x","stream":"stdout"}` + "\n", ""},
		{"far too long", `{"log":"` + strings.Repeat("x", 3<<20) + `"}` + "\n" + `{"log":"y","stream":"stdout",` + when + "}\n", "stdout|y||2024-03-09T09:11:12.13Z"},
	} {
		if got := strings.Join(decode(tc.file), "; "); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestFollow pins that a torn line is taken up when the rest has come.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var enc logfile.Encoder
	line := enc.Append(nil, logfile.Stdout, at, []byte("hello\n"))
	d := logfile.JSON.NewDecoder(r, 0)
	var e logfile.Entry
	for i, part := range [][]byte{line, line[:20], line[20:]} {
		w.Write(part)
		err := d.Next(&e)
		if want := int64(len(line)) * int64((i+2)/2); (i == 1) != errors.Is(err, io.EOF) || i != 1 && d.Offset() != want {
			t.Fatalf("part %d: %v at %d", i, err, d.Offset())
		}
	}
}

func TestTail(t *testing.T) {
	text := "a\nbb\nccc\ntorn"
	for n, want := range []struct {
		offset int64
		found  int
	}{{13, 0}, {5, 1}, {2, 2}, {0, 3}, {0, 3}} {
		offset, found, err := logfile.JSON.Tail(strings.NewReader(text), int64(len(text)), n)
		if err != nil || offset != want.offset || found != want.found {
			t.Errorf("last %d: offset %d, %d found, %v, want %+v", n, offset, found, err, want)
		}
	}
	big := strings.Repeat("0123456789\n", 100_000)
	offset, found, err := logfile.JSON.Tail(strings.NewReader(big), int64(len(big)), 50_000)
	if err != nil || offset != 50_000*11 || found != 50_000 {
		t.Errorf("big: offset %d, %d found, %v", offset, found, err)
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if _, err := logfile.JSON.Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	var enc logfile.Encoder
	for i := range 12 { // .10 sorts before .2 in a listing
		if i == 1 {
			continue // a hole, as a rotation makes
		}
		line := enc.Append(nil, logfile.Stdout, at.Add(-time.Duration(i)*time.Hour), []byte("x\n"))
		if err := os.WriteFile(logfile.Name(path, i), line, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Link(path, logfile.Name(path, 1)) // the same file seen twice, moved meanwhile
	files, err := logfile.JSON.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer logfile.Close(files)
	if len(files) != 11 || files[10].Generation != logfile.Generation(at) {
		t.Errorf("%d files, the last of generation %d", len(files), files[len(files)-1].Generation)
	}
	for i := range files[1:] {
		if files[i].Generation >= files[i+1].Generation {
			t.Errorf("file %d is not older than the next", i)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte(`{"log":"hello\n","stream":"stdout","time":"2024-03-09T09:11:12.13Z"}` + "\n"))
	f.Add([]byte(`{"log":"\udc80\ud83d\ude00","stream":"stderr","attrs":{"a":"b"},"time":"2024-03-09T09:11:12.13Z"}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		d := logfile.JSON.NewDecoder(bytes.NewReader(file), 0)
		var e logfile.Entry
		for last := int64(0); d.Next(&e) == nil; last = d.Offset() {
			if d.Offset() <= last || d.Offset() > int64(len(file)) {
				t.Fatalf("offset %d after %d", d.Offset(), last)
			}
		}
	})
}

// FuzzRoundTrip pins that any bytes come back, and that entries are JSON.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello\n"), true)
	f.Add([]byte("\xed\xb2\x80\xff\u2028<\n"), false)
	f.Fuzz(func(t *testing.T, line []byte, attrs bool) {
		line = line[:min(len(line), logfile.MaxLine)]
		var m map[string]string
		if attrs {
			m = map[string]string{"k": string(line)}
		}
		enc, err := logfile.JSON.NewEncoder(m)
		if err != nil {
			t.Fatal(err)
		}
		file := enc.Append(nil, logfile.Stderr, at, line)
		if !json.Valid(file) || bytes.Count(file, []byte("\n")) != 1 {
			t.Fatalf("not one line of JSON: %q", file)
		}
		var e logfile.Entry
		if err := logfile.JSON.NewDecoder(bytes.NewReader(file), 0).Next(&e); err != nil || !bytes.Equal(e.Line, line) || e.Stream != logfile.Stderr || !e.Time.Equal(at) || (e.Attrs != nil) != attrs {
			t.Fatalf("%q came back as %+v, %v", line, e, err)
		}
	})
}
