package keeper_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/shimwire"
	"gantry/shim/keeper"
	"gantry/shim/stdio"
)

// place is a container's: the directory of fifos, the log and the socket.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) place {
	p := place{t, t.TempDir()}
	for _, name := range []string{"init.0", "init.1", "init.2", "e.0", "e.1"} {
		if err := unix.Mkfifo(p.path(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p place) path(name string) string { return filepath.Join(p.dir, name) }

// start runs a keeper, as it would be anew after the death of one.
func (p place) start() *keeper.Keeper {
	p.t.Helper()
	l, err := shimwire.Listen(p.path("sock"))
	if err != nil {
		p.t.Fatal(err)
	}
	k := keeper.Serve(p.path("sock"), l, stdio.Owner{Namespace: "ns", ID: "c", Log: slog.New(slog.DiscardHandler)})
	p.t.Cleanup(func() {
		k.EndFifos("")
		k.Drain(p.t.Context())
	})
	return k
}

func (p place) open(f shimwire.Fifos) {
	p.t.Helper()
	if f.Output == "" {
		f.Output = shimwire.LogURI{Path: p.path("log"), Socket: "/unused"}.String()
	}
	if err := shimwire.OpenFifos(p.t.Context(), p.path("sock"), f); err != nil {
		p.t.Fatal(err)
	}
}

func (p place) init() shimwire.Fifos {
	return shimwire.Fifos{Stdin: p.path("init.0"), Stdout: p.path("init.1"), Stderr: p.path("init.2")}
}

// shimEnd opens the shim's end of a fifo.
func (p place) shimEnd(name string, flag int) *os.File {
	p.t.Helper()
	f, err := os.OpenFile(p.path(name), flag, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { f.Close() })
	return f
}

func (p place) dial(h shimwire.Hello) *shimwire.Conn {
	p.t.Helper()
	c, err := shimwire.Dial(p.t.Context(), p.path("sock"), h)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// rest is what a stream gives to its end.
func rest(t *testing.T, c *shimwire.Conn) string {
	t.Helper()
	var out bytes.Buffer
	for {
		f, err := c.Read()
		switch {
		case errors.Is(err, io.EOF):
			return out.String()
		case err != nil:
			t.Fatalf("after %q: %v", out.String(), err)
		case f.Kind == shimwire.Data:
			out.Write(f.Data)
		}
	}
}

// TestRun takes an init's output and input through its life.
func TestRun(t *testing.T) {
	p := newPlace(t)
	k := p.start()
	p.open(p.init())
	p.open(p.init()) // again: nothing happens
	out, errs, in := p.shimEnd("init.1", os.O_WRONLY), p.shimEnd("init.2", os.O_WRONLY), p.shimEnd("init.0", os.O_RDONLY)
	live := p.dial(shimwire.Hello{Stdin: true, Stdout: true, Stderr: true})
	out.WriteString("out\n")
	live.Write([]byte("typed"))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(in, buf); err != nil || string(buf) != "typed" {
		t.Errorf("stdin %q %v", buf, err)
	}
	live.CloseStdin()
	if n, err := in.Read(buf); err != io.EOF {
		t.Errorf("after its end stdin has %q, %v", buf[:n], err)
	}
	errs.WriteString("err\n")
	out.WriteString("said last") // and not taken yet: the shim has written all and is gone
	if err := shimwire.EndFifos(t.Context(), p.path("sock"), ""); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, live); len(got) != len("out\nerr\nsaid last") || !strings.Contains(got, "said last") {
		t.Errorf("a client got %q", got)
	}
	select {
	case <-k.Done():
	case <-time.After(10 * time.Second):
		t.Error("the keeper goes on")
	}
	raw, err := os.ReadFile(p.path("log"))
	if err != nil || bytes.Count(raw, []byte("\n")) != 3 || !bytes.Contains(raw, []byte("said last")) {
		t.Errorf("log %q %v", raw, err)
	}
	if _, err := os.Stat(p.path("sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestAnew pins that nothing is lost in the fifos between two keepers, and that who
// attaches with what was logged gets it once.
func TestAnew(t *testing.T) {
	p := newPlace(t)
	out := p.keptOpen("init.1")
	for i := range 3 {
		p.start()
		p.open(p.init())
		fmt.Fprintf(out, "line %d\n", i)
		c := p.dial(shimwire.Hello{Stdout: true, From: &shimwire.Position{}})
		var got []byte
		for want := fmt.Sprintf("line %d\n", i); !bytes.HasSuffix(got, []byte(want)); {
			f, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, f.Data...)
		}
		if n := bytes.Count(got, []byte("\n")); n != 2*i+1 {
			t.Errorf("by keeper %d there are %d lines: %q", i, n, got)
		}
		shimwire.EndFifos(t.Context(), p.path("sock"), "") // dies, for the fifos
		fmt.Fprintf(out, "between %d\n", i)
	}
}

// keptOpen is a writing end held as the shim holds it, with a reading one.
func (p place) keptOpen(name string) *os.File { return p.shimEnd(name, os.O_RDWR) }

// TestExec: execs come and go beside the init; a terminal's stdin has no end.
func TestExec(t *testing.T) {
	p := newPlace(t)
	p.start()
	p.open(p.init())
	p.open(shimwire.Fifos{
		Proc: "e", Stdin: p.path("e.0"), Stdout: p.path("e.1"), Terminal: true, Output: shimwire.StreamURI{Socket: "/unused"}.String(),
	})
	p.keptOpen("e.1").WriteString("before anybody came")
	c := p.dial(shimwire.Hello{Proc: "e", Stdin: true, Stdout: true})
	c.CloseStdin()
	in := p.keptOpen("e.0")
	c.Write([]byte("more"))
	buf := make([]byte, 4)
	if _, err := io.ReadFull(in, buf); err != nil || string(buf) != "more" {
		t.Errorf("stdin %q %v", buf, err)
	}
	for range 2 { // the second finds nothing, which is no error
		if err := shimwire.EndFifos(t.Context(), p.path("sock"), "e"); err != nil {
			t.Error(err)
		}
	}
	if got := rest(t, c); got != "before anybody came" {
		t.Errorf("got %q", got)
	}
	if _, err := shimwire.Dial(t.Context(), p.path("sock"), shimwire.Hello{Proc: "e"}); !errdefs.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
	p.dial(shimwire.Hello{Stdout: true}) // the init is there
}

// TestRefused: what is no fifo is not opened, and nothing stays open.
func TestRefused(t *testing.T) {
	p := newPlace(t)
	p.start()
	file := p.path("file")
	os.WriteFile(file, nil, 0o600)
	os.Symlink(p.path("init.1"), p.path("link"))
	before := descriptors(t)
	good := shimwire.LogURI{Path: p.path("log"), Socket: "/unused"}.String()
	for name, f := range map[string]shimwire.Fifos{
		"missing":     {Output: good, Stdout: p.path("nope")},
		"a file":      {Output: good, Stdout: p.path("init.1"), Stderr: file},
		"a link":      {Output: good, Stdout: p.path("link")},
		"no uri":      {Output: file, Stdout: p.path("init.1")},
		"stdin fails": {Output: good, Stdout: p.path("init.1"), Stdin: p.path("nope")},
	} {
		if err := shimwire.OpenFifos(t.Context(), p.path("sock"), f); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); descriptors(t) > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors were open, now %d", before, descriptors(t))
		}
	}
	conn, err := net.Dial("unix", p.path("sock"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestQuit: a keeper with nothing to keep ends when it is told, any other does not.
func TestQuit(t *testing.T) {
	p := newPlace(t)
	k := p.start()
	p.open(p.init())
	k.Quit()
	select {
	case <-k.Done():
		t.Fatal("ended with an init")
	default:
	}
	k.EndFifos("")
	<-k.Done()
	k = p.start()
	k.Quit()
	<-k.Done()
	if err := k.OpenFifos(p.init()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
}
