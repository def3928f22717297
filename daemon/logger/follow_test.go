package logger_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/daemon/logger"
)

// TestFollowGoesOnInFiles hangs up on a reader halfway, as a shim does that ends before
// a slow one has read all: the rest comes from the files, each entry once.
func TestFollowGoesOnInFiles(t *testing.T) {
	const n = 12
	var want bytes.Buffer
	for i := range n {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	for _, tt := range []struct {
		name string
		told int // entries that the stream gives before it ends
	}{{"nothing told", 0}, {"within a rotated file", 2}, {"to a file's end", 4}, {"within the last file", 10}, {"all but the end", n}} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeLog(t, n)
			frames := framesOf(t, path)
			// The log is empty when it is opened, and grows before the shim is asked.
			later := hide(t, path)
			socket := filepath.Join(t.TempDir(), "s")
			serve(t, socket, func() []byte { later(); return bytes.Join(frames[:tt.told], nil) })
			var out bytes.Buffer
			o := logger.Options{Stdout: true, Stderr: true, Tail: -1, Follow: true}
			if err := logger.Read(t.Context(), logger.Source{Path: path, Socket: socket}, o, &out, &out); err != nil {
				t.Fatal(err)
			}
			if out.String() != want.String() {
				t.Errorf("read %q", out.String())
			}
		})
	}
}

// framesOf is the log as a shim's stream gives it, a frame for each entry.
func framesOf(t *testing.T, path string) (out [][]byte) {
	t.Helper()
	files, err := logfile.JSON.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer logfile.Close(files)
	for _, f := range files {
		d := f.Decoder(0)
		for e := (logfile.Entry{}); d.Next(&e) == nil; {
			out = append(out, shimwire.AppendData(nil, shimwire.Frame{
				Kind: shimwire.Data, Stream: e.Stream, Time: e.Time, Data: e.Line,
				Pos: shimwire.Position{Generation: f.Generation, Offset: d.Offset()},
			}))
		}
	}
	return out
}

// hide moves the files of a log away; the function returned brings them back.
func hide(t *testing.T, path string) func() {
	t.Helper()
	away := func(i int) string { return logfile.Name(path, i) + ".away" }
	for i := range 3 {
		if err := os.Rename(logfile.Name(path, i), away(i)); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for i := range 3 {
			os.Rename(away(i), logfile.Name(path, i))
		}
	}
}

// serve answers one client with frames, and hangs up.
func serve(t *testing.T, socket string, frames func() []byte) {
	t.Helper()
	l, err := shimwire.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := shimwire.ReadRequest(conn); err == nil {
			conn.Write(append(shimwire.AppendWelcome(nil, shimwire.Position{}), frames()...))
		}
	}()
}
