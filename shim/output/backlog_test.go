package output

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/internal/testutil/need"
)

// small is a file system of size bytes that can be filled and emptied.
type small struct {
	t       *testing.T
	dir     string
	ballast string
}

func newSmall(t *testing.T, size string) small {
	t.Helper()
	need.Root(t, "mounts a small file system")
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return small{t, dir, filepath.Join(dir, "ballast")}
}

func (s small) fill() {
	s.t.Helper()
	f, err := os.Create(s.ballast)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		s.t.Fatal(err)
	}
	f.Close()
}

func (s small) empty() {
	s.t.Helper()
	if err := os.Remove(s.ballast); err != nil {
		s.t.Fatal(err)
	}
}

// line is the i-th of about 100 bytes.
func line(i int) string { return fmt.Sprintf("%08d %090d\n", i, i) }

func lines(from, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(from + i))
	}
	return b.String()
}

// ascending tells the numbers of the lines, which must grow, and whether any is missing
// among the first n.
func ascending(t *testing.T, text string, n int) (missing int) {
	t.Helper()
	last, count := -1, 0
	for l := range strings.Lines(text) {
		i, err := strconv.Atoi(l[:min(8, len(l))])
		if err != nil || i <= last || l != line(i) {
			t.Fatalf("after line %d comes %q", last, l)
		}
		last = i
		count++
	}
	return n - count
}

func text(t *testing.T, l *Log) string {
	t.Helper()
	return strings.ReplaceAll(strings.Join(entriesOf(t, l.format, l.path), ""), "stdout ", "")
}

// each runs test with a log of each form.
func each(t *testing.T, test func(t *testing.T, driver string)) {
	for _, driver := range []string{shimwire.DriverJSONFile, shimwire.DriverLocal} {
		t.Run(driver, func(t *testing.T) { test(t, driver) })
	}
}

// TestBacklog: what a full disk refuses reaches live readers at once, and the file when
// there is room.
func TestBacklog(t *testing.T) { each(t, testBacklog) }

func testBacklog(t *testing.T, driver string) {
	fs := newSmall(t, "256k")
	l := openTestLog(t, shimwire.LogURI{Path: filepath.Join(fs.dir, "log"), Driver: driver})
	live, follow := l.NewReader(both), l.NewReader(shimwire.Hello{Stdout: true, Lines: true})
	for i := range 500 {
		l.Write(logfile.Stdout, []byte(line(i)))
		if i == 50 {
			fs.fill()
		}
	}
	all := func(g *got) bool { return strings.Count(g.streams[1].String(), "\n") == 500 }
	for _, r := range []Reader{live, follow} {
		if g := take(t, r, all); ascending(t, g.streams[1].String(), 500) > 0 || g.gaps > 0 {
			t.Errorf("a reader misses lines of a full disk, %d gaps", g.gaps)
		}
	}
	if ascending(t, text(t, l), 500) == 0 {
		t.Error("the disk was not full")
	}
	fs.empty()
	for end := time.Now().Add(10 * time.Second); ascending(t, text(t, l), 500) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the file misses lines")
		}
	}
	l.Write(logfile.Stdout, []byte(line(500)))
	l.End()
	if n := ascending(t, text(t, l), 501); n > 0 {
		t.Errorf("%d lines are missing", n)
	}
}

// TestBacklogOverflow: beyond the bound lines are lost, in whole, and a reader that had
// not got them is told.
func TestBacklogOverflow(t *testing.T) {
	const n = 30_000 // 3 MB
	fs := newSmall(t, "256k")
	l := openTestLog(t, shimwire.LogURI{Path: filepath.Join(fs.dir, "log")})
	slow, fast := l.NewReader(both), l.NewReader(both)
	var wg sync.WaitGroup
	wg.Go(func() {
		g := take(t, fast, nil)
		if lost := ascending(t, g.streams[1].String(), n); (lost > 0) != (g.gaps > 0) || !g.ended {
			t.Errorf("a fast reader misses %d lines and has %d gaps", lost, g.gaps)
		}
	})
	for i := 0; i < n; i += 10 {
		if i == 50 {
			fs.fill()
		}
		l.Write(logfile.Stdout, []byte(lines(i, 10)))
		l.mu.Lock()
		size := len(l.held.data)
		l.mu.Unlock()
		if size > maxHeld {
			t.Fatalf("%d bytes held", size)
		}
	}
	fs.empty()
	l.End()
	wg.Wait()
	g := take(t, slow, nil)
	if lost := ascending(t, g.streams[1].String(), n); lost == 0 || g.gaps == 0 || !g.ended {
		t.Errorf("a slow reader misses %d lines and has %d gaps", lost, g.gaps)
	}
	if lost := ascending(t, text(t, l), n); lost == 0 || lost == n {
		t.Errorf("the file misses %d lines", lost)
	}
}

// TestBacklogRotation: a log that may rotate goes on in a new file, for which the oldest
// makes room.
func TestBacklogRotation(t *testing.T) { each(t, testBacklogRotation) }

func testBacklogRotation(t *testing.T, driver string) {
	fs := newSmall(t, "512k")
	l := openTestLog(t, shimwire.LogURI{
		Path: filepath.Join(fs.dir, "log"), Driver: driver, MaxSize: 64 << 10, MaxFile: 2, Compress: driver == shimwire.DriverLocal,
	})
	fast := l.NewReader(both)
	var wg sync.WaitGroup
	const n = 10_000
	wg.Go(func() {
		g := take(t, fast, nil)
		if lost := ascending(t, g.streams[1].String(), n); lost > 0 && g.gaps == 0 || !g.ended {
			t.Errorf("a reader misses %d lines and has %d gaps", lost, g.gaps)
		}
	})
	for i := 0; i < n; i += 10 {
		if i == 1000 {
			fs.fill()
		}
		l.Write(logfile.Stdout, []byte(lines(i, 10)))
	}
	l.End()
	wg.Wait()
	whole := text(t, l)
	if last := whole[max(0, len(whole)-len(line(0))):]; last < line(n-2000) {
		t.Errorf("the file ends with %q", last)
	}
}
