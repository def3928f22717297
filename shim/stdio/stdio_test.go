package stdio_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/shim/stdio"
)

var owner = stdio.Owner{Namespace: "ns", ID: "c", Log: slog.New(slog.DiscardHandler)}

func open(t *testing.T, s stdio.Spec) *stdio.IO {
	t.Helper()
	ends, err := stdio.Open(t.Context(), s, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		ends.Close(ctx)
	})
	return ends
}

// dup returns another descriptor of a process's end, as its fork has.
func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	d := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { d.Close() })
	return d
}

func TestSocket(t *testing.T) {
	for uri, want := range map[string]string{
		"":     "",
		"/run": "",
		shimwire.StreamURI{Socket: "/s"}.String():              "/s",
		shimwire.LogURI{Path: "/l", Socket: "/s"}.String():     "/s",
		shimwire.LogURI{Driver: "none", Socket: "/n"}.String(): "/n",
	} {
		if got, err := (stdio.Spec{Stdout: uri}).Socket(); got != want || err != nil {
			t.Errorf("%q: %q, %v", uri, got, err)
		}
	}
	if _, err := (stdio.Spec{Stdout: "gantry-log:///l"}).Socket(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no socket: %v", err)
	}
}

// TestOpenFails pins that nothing stays open after a failure.
func TestOpenFails(t *testing.T) {
	stream := shimwire.StreamURI{Socket: "/s"}.String()
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	before := files(t)
	for name, s := range map[string]stdio.Spec{
		"unknown scheme": {Stdout: "gopher://x"},
		"other stderr":   {Stdout: stream, Stderr: stream + "x"},
		"stderr alone":   {Stderr: stream},
		"no fifo":        {Stdout: file},
		"missing fifo":   {Stdout: file + "x"},
		"stdin":          {Stdout: stream, Stderr: stream, Stdin: "file:///x"},
		"missing stdin":  {Stdout: stream, Stdin: file + "x"},
		"logger":         {Stdout: "binary:///nope"},
	} {
		if _, err := stdio.Open(t.Context(), s, owner); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if after := files(t); after != before {
		t.Errorf("%d files were open, now %d", before, after)
	}
}

func files(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestBlockingEnds pins that a process gets descriptors as a shell would give it.
func TestBlockingEnds(t *testing.T) {
	uri := shimwire.StreamURI{Socket: "/s"}.String()
	ends := open(t, stdio.Spec{Stdin: uri, Stdout: uri, Stderr: uri})
	f := ends.Files()
	for _, f := range []*os.File{f.Stdin, f.Stdout, f.Stderr} {
		rc, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		rc.Control(func(fd uintptr) {
			if flags, _ := unix.FcntlInt(fd, unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
				t.Errorf("%s is non-blocking", f.Name())
			}
		})
	}
}

// TestHeldPipe pins that output is collected for a while after the process's
// end, and that who holds the pipe is not stuck later.
func TestHeldPipe(t *testing.T) {
	uri := shimwire.StreamURI{Socket: "/s"}.String()
	ends := open(t, stdio.Spec{Stdout: uri})
	held := dup(t, ends.Files().Stdout)
	if err := ends.Begin(nil); err != nil {
		t.Fatal(err)
	}
	ends.Exited()
	held.WriteString("last words")
	select {
	case <-ends.Drained():
	case <-time.After(5 * stdio.Grace):
		t.Fatal("a held pipe keeps the output from ending")
	}
	if _, err := held.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("who holds the pipe: %v", err)
	}
	r := ends.Output().NewReader(shimwire.Hello{Stdout: true})
	raw, err := r.Next(nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, _, err := shimwire.Decode(raw); err != nil || string(f.Data) != "last words" {
		t.Errorf("got %q, %v", f.Data, err)
	}
}

// TestStdinFifo pins that an engine that dies does not end a process's stdin,
// and that CloseStdin does when the engine has closed its end too.
func TestStdinFifo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdin")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ends := open(t, stdio.Spec{Stdin: path})
	in := dup(t, ends.Files().Stdin)
	if err := ends.Begin(nil); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} { // two engines
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.WriteString(text)
		w.Close()
		buf := make([]byte, 3)
		if _, err := io.ReadFull(in, buf); err != nil || string(buf) != text {
			t.Errorf("got %q, %v", buf, err)
		}
	}
	ends.CloseStdin()
	if n, err := in.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the close: %d, %v", n, err)
	}
}

func TestResizeWithoutTerminal(t *testing.T) {
	if err := open(t, stdio.Spec{}).Resize(80, 24); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
}
