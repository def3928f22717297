package output

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

var both = shimwire.Hello{Stdout: true, Stderr: true}

func from(h shimwire.Hello, p shimwire.Position) shimwire.Hello { h.From = &p; return h }

// got is what a reader gave.
type got struct {
	streams [3]bytes.Buffer
	lines   []string
	gaps    int
	ended   bool
	last    shimwire.Position
}

// take reads frames until the end or until stop says so.
func take(t *testing.T, r Reader, stop func(*got) bool) *got {
	t.Helper()
	g := &got{last: r.Start()}
	for stop == nil || !stop(g) {
		raw, err := r.Next(nil)
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Error(err)
			return g
		}
		for len(raw) > 0 {
			f, n, err := shimwire.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			raw = raw[n:]
			switch f.Kind {
			case shimwire.Data:
				g.streams[f.Stream].Write(f.Data)
				g.lines = append(g.lines, string(f.Data))
			case shimwire.Gap:
				g.gaps++
			case shimwire.End:
				g.ended = true
			}
			g.last = f.Pos
		}
	}
	r.Close()
	return g
}

// inProcess compresses without a process of its own.
var inProcess = Host{Compress: func(f logfile.Format, dst, src *os.File) error { return f.Compress(dst, src) }}

func openTestLog(t *testing.T, u shimwire.LogURI) *Log {
	t.Helper()
	if u.Path == "" {
		u.Path = filepath.Join(t.TempDir(), "log")
	}
	l, err := OpenLog(u, inProcess)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func entries(t *testing.T, path string) (lines []string) { return entriesOf(t, logfile.JSON, path) }

func entriesOf(t *testing.T, f logfile.Format, path string) (lines []string) {
	t.Helper()
	files, err := f.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer logfile.Close(files)
	for _, f := range files {
		d := f.Decoder(0)
		var e logfile.Entry
		for d.Next(&e) == nil {
			lines = append(lines, e.Stream.String()+" "+string(e.Line))
		}
	}
	return lines
}

// TestOpenWithoutDirectory: who comes late brings no removed container's directory back.
func TestOpenWithoutDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if l, err := OpenLog(shimwire.LogURI{Path: filepath.Join(dir, "log")}, inProcess); err == nil {
		l.Close()
		t.Error("opened")
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the directory is there")
	}
}

func TestEntries(t *testing.T) {
	k16 := strings.Repeat("x", logfile.MaxLine)
	for _, tc := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"line", []string{"a\n"}, []string{"a\n"}},
		{"lines at once", []string{"a\nb\n\nc\n"}, []string{"a\n", "b\n", "\n", "c\n"}},
		{"line in parts", []string{"a", "b", "c\nd\n"}, []string{"abc\n", "d\n"}},
		{"no newline at the end", []string{"a\nb"}, []string{"a\n", "b"}},
		{"exactly the bound", []string{k16 + "\n"}, []string{k16, "\n"}},
		{"one less", []string{k16[1:] + "\n"}, []string{k16[1:] + "\n"}},
		{"one more", []string{k16 + "y\n"}, []string{k16, "y\n"}},
		{"long in parts", []string{k16[:9], k16[9:], k16, "z", "\n"}, []string{k16, k16, "z\n"}},
		{"long at the end", []string{k16 + k16 + "q"}, []string{k16, k16, "q"}},
		{"nothing", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openTestLog(t, shimwire.LogURI{})
			for _, w := range tc.writes {
				if err := l.Write(logfile.Stdout, []byte(w)); err != nil {
					t.Fatal(err)
				}
			}
			l.End()
			var want []string
			for _, w := range tc.want {
				want = append(want, "stdout "+w)
			}
			if got := entries(t, l.path); strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("got %.80q, want %.80q", got, want)
			}
			if got := take(t, l.NewReader(from(both, shimwire.Position{})), nil); got.streams[1].String() != strings.Join(tc.writes, "") || !got.ended {
				t.Errorf("a reader of bytes got %.80q", got.streams[1].String())
			}
		})
	}
}

// TestPartialTime pins that all pieces of a long line bear the time of the first.
func TestPartialTime(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	l.Write(logfile.Stdout, bytes.Repeat([]byte("x"), logfile.MaxLine))
	l.Write(logfile.Stdout, []byte("end\nnext\n"))
	f, _ := os.Open(l.path)
	defer f.Close()
	var times []string
	d := logfile.JSON.NewDecoder(f, 0)
	for e := (logfile.Entry{}); d.Next(&e) == nil; {
		times = append(times, e.Time.String())
	}
	if len(times) != 3 || times[0] != times[1] || times[1] == times[2] {
		t.Errorf("times %q", times)
	}
}

func TestLiveReaders(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	l.Write(logfile.Stdout, []byte("before\npro"))
	now := l.NewReader(both)
	all := l.NewReader(from(both, shimwire.Position{}))
	lines := l.NewReader(shimwire.Hello{Stdout: true, Lines: true})
	errs := l.NewReader(shimwire.Hello{Stderr: true})
	l.Write(logfile.Stdout, []byte("mpt> "))
	if g := take(t, all, func(g *got) bool { return g.streams[1].Len() == 15 }); g.streams[1].String() != "before\nprompt> " {
		t.Errorf("a reader of all got %q before the newline", g.streams[1].String())
	} else {
		all = l.NewReader(from(both, g.last))
	}
	l.Write(logfile.Stderr, []byte("oops\n"))
	l.Write(logfile.Stdout, []byte("ls\n"))
	l.End()
	for name, tc := range map[string]struct {
		r        Reader
		out, err string
	}{
		"from now":           {now, "mpt> ls\n", "oops\n"},
		"where it left":      {all, "ls\n", "oops\n"},
		"lines":              {lines, "prompt> ls\n", ""},
		"stderr":             {errs, "", "oops\n"},
		"after the end":      {l.NewReader(from(both, shimwire.Position{})), "before\nprompt> ls\n", "oops\n"},
		"now, after the end": {l.NewReader(both), "", ""},
	} {
		g := take(t, tc.r, nil)
		if g.streams[1].String() != tc.out || g.streams[2].String() != tc.err || !g.ended || g.gaps > 0 {
			t.Errorf("%s: got %q and %q, ended %v, %d gaps", name, g.streams[1].String(), g.streams[2].String(), g.ended, g.gaps)
		}
	}
}

// TestJoin stops and continues a reader at random places of a random output,
// binary, across rotations and new runs: what it gets is what was written.
func TestJoin(t *testing.T) {
	for _, driver := range []string{shimwire.DriverJSONFile, shimwire.DriverLocal} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, compressed %v", driver, compress), func(t *testing.T) { testJoin(t, driver, compress) })
		}
	}
}

func testJoin(t *testing.T, driver string, compress bool) {
	rnd := rand.New(rand.NewSource(1))
	path := filepath.Join(t.TempDir(), "log")
	u := shimwire.LogURI{Path: path, Driver: driver, Compress: compress, MaxSize: 50 << 10, MaxFile: 1000}
	l := openTestLog(t, u)
	var written, read [3]bytes.Buffer
	pos := shimwire.Position{}
	for i := range 400 {
		p := make([]byte, rnd.Intn(3000))
		rnd.Read(p)
		if rnd.Intn(3) > 0 {
			for i := range p {
				p[i] = "abc\n"[p[i]&3]
			}
		}
		s := logfile.Stream(1 + rnd.Intn(2))
		written[s].Write(p)
		if err := l.Write(s, p); err != nil {
			t.Fatal(err)
		}
		switch rnd.Intn(20) {
		case 0, 1, 2:
			want := written[1].Len() + written[2].Len() - read[1].Len() - read[2].Len()
			want = rnd.Intn(want + 1)
			g := take(t, l.NewReader(from(both, pos)), func(g *got) bool { return g.streams[1].Len()+g.streams[2].Len() >= want })
			if g.gaps > 0 {
				t.Fatalf("round %d: gap", i)
			}
			pos = g.last
			for s := range read {
				read[s].Write(g.streams[s].Bytes())
			}
		case 3:
			l.Close()
			l = openTestLog(t, u)
		}
	}
	l.End()
	g := take(t, l.NewReader(from(both, pos)), nil)
	for s := range read {
		read[s].Write(g.streams[s].Bytes())
		if !bytes.Equal(read[s].Bytes(), written[s].Bytes()) {
			t.Errorf("stream %d: %d bytes read differ from %d written", s, read[s].Len(), written[s].Len())
		}
	}
	if files, _ := filepath.Glob(path + ".*"); len(files) < 8 {
		t.Errorf("only %d rotations", len(files))
	}
}

func TestRotation(t *testing.T) {
	for _, files := range []int{0, 1, 2, 3} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			l := openTestLog(t, shimwire.LogURI{MaxSize: 1000, MaxFile: files})
			follow := l.NewReader(shimwire.Hello{Stdout: true, Lines: true})
			for i := range 200 {
				if err := l.Write(logfile.Stdout, fmt.Appendf(nil, "line %03d\n", i)); err != nil {
					t.Fatal(err)
				}
			}
			l.End()
			found, _ := filepath.Glob(l.path + "*")
			if len(found) != max(1, files) {
				t.Errorf("files %q", found)
			}
			for _, name := range found {
				if st, _ := os.Stat(name); st.Size() > 1100 {
					t.Errorf("%s has %d bytes", name, st.Size())
				}
			}
			g := take(t, follow, nil)
			if g.gaps != 1 || !g.ended || g.lines[len(g.lines)-1] != "line 199\n" {
				t.Errorf("a slow follower got %d gaps, ended %v, last %q", g.gaps, g.ended, g.lines)
			}
			kept := entries(t, l.path)
			if len(kept) == 0 || kept[len(kept)-1] != "stdout line 199\n" {
				t.Errorf("kept %q", kept)
			}
		})
	}
}

// TestRotationWaits pins that a reader of bytes loses nothing to rotation, and
// that its leaving lets the process go on.
func TestRotationWaits(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{MaxSize: 500, MaxFile: 2})
	slow, quitter := l.NewReader(both), l.NewReader(both)
	var wg sync.WaitGroup
	var want bytes.Buffer
	for i := range 300 {
		fmt.Fprintf(&want, "%d\n", i)
	}
	wg.Go(func() {
		l.Write(logfile.Stdout, want.Bytes())
		l.End()
	})
	wg.Go(func() { take(t, quitter, func(g *got) bool { return g.streams[1].Len() > 100 }) })
	g := take(t, slow, nil)
	wg.Wait()
	if g.streams[1].String() != want.String() || g.gaps > 0 {
		t.Errorf("got %d bytes of %d, %d gaps", g.streams[1].Len(), want.Len(), g.gaps)
	}
}

// TestRotationLosesPatience pins that a reader which reads no more holds up
// neither the process nor the end, and is told what it missed.
func TestRotationLosesPatience(t *testing.T) {
	for name, atEnd := range map[string]bool{"in time": false, "at the end": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openTestLog(t, shimwire.LogURI{MaxSize: 500, MaxFile: 2})
				stuck := l.NewReader(both)
				var written sync.WaitGroup
				written.Go(func() {
					for i := range 300 {
						l.Write(logfile.Stdout, fmt.Appendf(nil, "%d\n", i))
					}
				})
				if atEnd {
					synctest.Wait() // now it waits for the reader
				} else {
					written.Wait()
				}
				before := time.Now()
				l.End()
				written.Wait()
				if waited := time.Since(before); waited != 0 {
					t.Errorf("the end took %v", waited)
				}
				if g := take(t, stuck, nil); g.gaps == 0 || !g.ended {
					t.Errorf("%d gaps, ended %v", g.gaps, g.ended)
				}
			})
		})
	}
}

func TestTruncated(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	r := l.NewReader(both)
	l.Write(logfile.Stdout, []byte("first, and long enough\n"))
	take(t, l.NewReader(from(both, shimwire.Position{})), func(g *got) bool { return g.streams[1].Len() > 0 })
	if err := os.Truncate(l.path, 0); err != nil {
		t.Fatal(err)
	}
	l.Write(logfile.Stdout, []byte("lost, or not\n"))
	l.Write(logfile.Stdout, []byte("second\n"))
	l.End()
	if g := take(t, r, nil); !g.ended || !strings.HasSuffix(g.streams[1].String(), "second\n") {
		t.Errorf("got %q, ended %v", g.streams[1].String(), g.ended)
	}
}

func TestTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := openTestLog(t, shimwire.LogURI{Path: path})
	l.Write(logfile.Stdout, []byte("one\ntwo\n"))
	l.End()
	st, _ := os.Stat(path)
	os.Truncate(path, st.Size()-5)
	l = openTestLog(t, shimwire.LogURI{Path: path})
	l.Write(logfile.Stdout, []byte("three\n"))
	l.End()
	if got := strings.Join(entries(t, path), ""); got != "stdout one\nstdout three\n" {
		t.Errorf("got %q", got)
	}
}

// TestDiskFull pins that a refused write is told, and comes when it is taken.
func TestDiskFull(t *testing.T) {
	l := openTestLog(t, shimwire.LogURI{})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	file := l.file
	l.file = full
	if err := l.Write(logfile.Stdout, []byte("late\n")); err == nil {
		t.Error("a write to a full device succeeded")
	}
	l.file = file
	if err := l.Write(logfile.Stdout, []byte("kept\n")); err != nil {
		t.Error(err)
	}
	l.End()
	if got := strings.Join(entries(t, l.path), ""); got != "stdout late\nstdout kept\n" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkLog(b *testing.B) {
	chunk := bytes.Repeat([]byte(strings.Repeat("a", 63)+"\n"), 1024)
	l, err := OpenLog(shimwire.LogURI{Path: filepath.Join(b.TempDir(), "log"), MaxSize: 50 << 20, MaxFile: 2}, Host{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(logfile.Stdout, chunk); err != nil {
			b.Fatal(err)
		}
	}
}
