package output

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// settled waits until nothing is being compressed.
func settled(t *testing.T, l *Log) {
	t.Helper()
	for range 1000 {
		l.lane.Lock()
		busy := l.packer.busy
		l.lane.Unlock()
		if !busy {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("still compressing")
}

func found(t *testing.T, path string) (names []string) {
	t.Helper()
	all, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		names = append(names, strings.TrimPrefix(name, path))
	}
	return names
}

func writeLines(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := l.Write(logfile.Stdout, []byte(line(i))); err != nil {
			t.Fatal(err)
		}
	}
}

func checkLines(t *testing.T, f logfile.Format, path string, to int) {
	t.Helper()
	got := entriesOf(t, f, path)
	for i := range got {
		if want := "stdout " + line(to-len(got)+i); got[i] != want {
			t.Fatalf("entry %d of %d is %q, not %q", i, len(got), got[i], want)
		}
	}
	if len(got) == 0 {
		t.Error("no entries")
	}
}

// TestPack pins the names that Docker uses, that nothing is lost, and that a new run
// compresses what the one before has left, whatever it has left.
func TestPack(t *testing.T) {
	for _, f := range []logfile.Format{logfile.JSON, logfile.Local} {
		t.Run(f.String(), func(t *testing.T) {
			u := shimwire.LogURI{
				Path: filepath.Join(t.TempDir(), "log"), Driver: f.String(), Compress: true, MaxSize: 10000, MaxFile: 4,
			}
			l := openTestLog(t, u)
			n := 0
			for range 10 {
				writeLines(t, l, n, n+50)
				n += 50
				settled(t, l)
			}
			if got, want := found(t, u.Path), []string{"", ".1.gz", ".2.gz", ".3.gz"}; !slices.Equal(got, want) {
				t.Errorf("files %q", got)
			}
			checkLines(t, f, u.Path, n)
			follow := l.NewReader(from(shimwire.Hello{Stdout: true, Lines: true}, shimwire.Position{}))
			kept := entriesOf(t, f, u.Path)
			l.Close()
			if g := take(t, follow, nil); len(g.lines) != len(kept) || g.gaps > 0 || !g.ended {
				t.Errorf("a reader got %d lines of %d, %d gaps", len(g.lines), len(kept), g.gaps)
			}

			// One that was killed in the middle leaves the beginning of a compressed file,
			// one between two steps both forms.
			src, _ := os.ReadFile(u.Path)
			os.Rename(u.Path, u.Path+".away")
			for i := 3; i > 0; i-- {
				os.Rename(logfile.Name(u.Path, i)+logfile.Suffix, logfile.Name(u.Path, i+1)+logfile.Suffix)
			}
			os.WriteFile(logfile.Name(u.Path, 1), src, 0o640)
			os.Remove(u.Path + ".away")
			os.WriteFile(u.Path+".pack", []byte("half"), 0o640)
			l = openTestLog(t, u)
			settled(t, l)
			if got, want := found(t, u.Path), []string{"", ".1.gz", ".2.gz", ".3.gz", ".4.gz"}; !slices.Equal(got, want) {
				t.Errorf("files of the next run %q", got)
			}
			checkLines(t, f, u.Path, n)
			writeLines(t, l, n, n+200)
			settled(t, l)
			if got := found(t, u.Path); len(got) != 4 {
				t.Errorf("files %q", got)
			}
			checkLines(t, f, u.Path, n+200)
		})
	}
}

// TestPackHeldUp pins that a slow compressor holds up nothing, and that files which
// rotation removes meanwhile stay removed.
func TestPackHeldUp(t *testing.T) {
	begun, release := make(chan struct{}, 100), make(chan struct{})
	h := Host{Compress: func(f logfile.Format, dst, src *os.File) error {
		begun <- struct{}{}
		<-release
		return f.Compress(dst, src)
	}}
	u := shimwire.LogURI{Path: filepath.Join(t.TempDir(), "log"), Compress: true, MaxSize: 2000, MaxFile: 3}
	l, err := OpenLog(u, h)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	writeLines(t, l, 0, 30)
	<-begun
	writeLines(t, l, 30, 200) // the file at hand has gone long since
	if got := found(t, u.Path); !slices.Equal(got, []string{"", ".1", ".2", ".pack"}) {
		t.Errorf("files %q", got)
	}
	close(release)
	settled(t, l)
	if got := found(t, u.Path); !slices.Equal(got, []string{"", ".1.gz", ".2.gz"}) {
		t.Errorf("files %q", got)
	}
	checkLines(t, logfile.JSON, u.Path, 200)
}

// TestPackFails pins that a log without a working compressor stays whole, tells it, and
// tries again with the next file.
func TestPackFails(t *testing.T) {
	fail, told := true, make(chan string, 100)
	h := Host{
		Compress: func(f logfile.Format, dst, src *os.File) error {
			if fail {
				dst.Write([]byte("half"))
				return errors.New("no room")
			}
			return f.Compress(dst, src)
		},
		Warn: func(msg string, args ...any) { told <- fmt.Sprint(msg, args) },
	}
	u := shimwire.LogURI{Path: filepath.Join(t.TempDir(), "log"), Compress: true, MaxSize: 2000, MaxFile: 3}
	l, err := OpenLog(u, h)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	writeLines(t, l, 0, 20)
	settled(t, l)
	if got := found(t, u.Path); !slices.Equal(got, []string{"", ".1"}) {
		t.Errorf("files %q", got)
	}
	if got := <-told; !strings.Contains(got, "compress log") || !strings.Contains(got, "no room") {
		t.Errorf("told %q", got)
	}
	l.lane.Lock()
	fail = false
	l.lane.Unlock()
	writeLines(t, l, 20, 30)
	settled(t, l)
	if got := found(t, u.Path); !slices.Equal(got, []string{"", ".1.gz", ".2"}) {
		t.Errorf("files %q", got)
	}
	checkLines(t, logfile.JSON, u.Path, 30)
}

// TestFirst pins that each file tells how many entries came before it, over runs and
// compression.
func TestFirst(t *testing.T) {
	u := shimwire.LogURI{
		Path: filepath.Join(t.TempDir(), "log"), Driver: shimwire.DriverLocal, Compress: true, MaxSize: 2000, MaxFile: 3,
	}
	n := 0
	for range 3 {
		l := openTestLog(t, u)
		writeLines(t, l, n, n+33)
		n += 33
		settled(t, l)
		l.Close()
	}
	files, err := logfile.Local.Open(u.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer logfile.Close(files)
	for i, f := range files {
		d := f.Decoder(0)
		var e logfile.Entry
		if err := d.Next(&e); err != nil {
			t.Fatal(err)
		}
		first, ok := f.First()
		if !ok {
			t.Skip("no extended attributes here")
		}
		if want := line(int(first)); string(e.Line) != want {
			t.Errorf("file %d begins with %q, not with entry %d", i, e.Line, first)
		}
	}
}

// TestTornMessage pins that a message which a power cut has torn is taken off.
func TestTornMessage(t *testing.T) {
	u := shimwire.LogURI{Path: filepath.Join(t.TempDir(), "log"), Driver: shimwire.DriverLocal}
	l := openTestLog(t, u)
	writeLines(t, l, 0, 3)
	l.Close()
	whole, _ := os.ReadFile(u.Path)
	for _, end := range [][]byte{whole[:len(whole)-1], whole[:len(whole)-100], append(bytes.Clone(whole), make([]byte, 4096)...)} {
		os.WriteFile(u.Path, end, 0o640)
		l := openTestLog(t, u)
		l.Write(logfile.Stdout, []byte("next\n"))
		l.Close()
		got := entriesOf(t, logfile.Local, u.Path)
		if got[len(got)-1] != "stdout next\n" || got[1] != "stdout "+line(1) || len(got) < 3 {
			t.Errorf("got %.200q", got)
		}
		if st, _ := os.Stat(u.Path); st.Size() > int64(len(whole)+60) {
			t.Errorf("%d bytes", st.Size())
		}
	}
}
