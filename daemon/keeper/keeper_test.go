package keeper_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/api/shimwire"
	"gantry/daemon/keeper"
)

// The test's own executable is the keeper: it notes what it is asked for, and answers
// unless there is a file that says no.
func TestMain(m *testing.M) {
	if os.Args[len(os.Args)-1] == "keep" {
		keep(os.Args[6]) // -namespace NS -id ID -socket PATH …
		return
	}
	os.Exit(m.Run())
}

func keep(socket string) {
	f := os.NewFile(3, "socket")
	l, err := net.FileListener(f)
	if err != nil {
		os.Exit(1)
	}
	f.Close()
	note, _ := os.OpenFile(socket+".note", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		req, err := shimwire.ReadRequest(c.(*net.UnixConn))
		word := "?"
		switch {
		case err != nil:
		case req.Fifos != nil:
			word = "open " + req.Fifos.Proc
		case req.End != nil:
			word = "end " + *req.End
		case req.Hello != nil:
			word = "hello " + req.Hello.Proc
		}
		note.WriteString(strings.TrimSpace(word) + "\n")
		if _, err := os.Stat(socket + ".mute"); err == nil {
			continue // and keeps the connection
		}
		c.Write(shimwire.AppendResult(nil, nil))
		if req.End != nil && *req.End == "" {
			os.Remove(socket)
			return
		}
		c.Close()
	}
}

// place is where the keepers of one test are.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) place {
	t.Helper()
	// Named as what a daemon looks for when it minds the keeper of another.
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, shimwire.Binary)); err != nil {
		t.Fatal(err)
	}
	return place{t, dir}
}

// daemon makes Keepers, as each daemon does.
func (p place) daemon() *keeper.Keepers {
	return keeper.New(keeper.Config{Dir: p.dir, Binary: filepath.Join(p.dir, shimwire.Binary)}, slog.New(slog.DiscardHandler))
}

// notes are what the keepers of c have been asked for.
func (p place) notes() string {
	raw, _ := os.ReadFile(filepath.Join(p.dir, "c.sock.note"))
	return strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", ", ")
}

func (p place) pid() int {
	raw, _ := os.ReadFile(filepath.Join(p.dir, "c.fifos", "pid"))
	pid, _ := strconv.Atoi(string(raw))
	return pid
}

// left are the files but for the test's own.
func (p place) left() string {
	var out []string
	filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if name := filepath.Base(path); path != p.dir && !strings.HasSuffix(name, ".note") && !strings.HasSuffix(name, ".mute") && name != shimwire.Binary {
			out = append(out, strings.TrimPrefix(path, p.dir+"/"))
		}
		return nil
	})
	return strings.Join(out, " ")
}

var (
	initStreams = keeper.Streams{Output: "gantry-stream:///s", Stdin: true}
	termStreams = keeper.Streams{Output: "gantry-stream:///s", Terminal: true}
)

func TestLife(t *testing.T) {
	p := newPlace(t)
	k, ctx := p.daemon(), t.Context()
	io, err := k.Begin(ctx, "c", initStreams)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{io.Stdin, io.Stdout, io.Stderr} {
		if st, err := os.Stat(path); err != nil || st.Mode().Type() != fs.ModeNamedPipe || !strings.HasSuffix(path, "c.fifos/init."+strconv.Itoa(i)) {
			t.Errorf("%s: %v %v", path, st, err)
		}
	}
	io, err = k.BeginExec(ctx, "c", "e", termStreams)
	if err != nil || io.Stdin != "" || io.Stderr != "" || !io.Terminal || !strings.HasSuffix(io.Stdout, "c.fifos/e.1") {
		t.Errorf("exec: %+v %v", io, err)
	}
	if err := k.EndExec(ctx, "c", "e"); err != nil {
		t.Error(err)
	}
	if got := p.left(); got != "c.fifos c.fifos/init.0 c.fifos/init.1 c.fifos/init.2 c.fifos/pid c.sock" {
		t.Errorf("while it runs: %s", got)
	}
	if !k.Keeps("c") {
		t.Error("not kept")
	}
	for range 2 {
		if err := k.End(ctx, "c"); err != nil {
			t.Error(err)
		}
	}
	if got := p.left(); got != "" || k.Keeps("c") {
		t.Errorf("left: %s", got)
	}
	if err := k.Adopt(ctx, "c", initStreams); err == nil {
		t.Error("taken up after its end")
	}
	if _, err := k.BeginExec(ctx, "c", "e", termStreams); err == nil || p.left() != "" {
		t.Errorf("an exec after the end: %v, left %s", err, p.left())
	}
	if got := p.notes(); got != "open, open e, end e, end" {
		t.Errorf("asked for %s", got)
	}
}

// A daemon minds the keeper that it has started, and that of the daemon before.
func TestReplaced(t *testing.T) {
	p := newPlace(t)
	before := p.daemon()
	if _, err := before.Begin(t.Context(), "c", initStreams); err != nil {
		t.Fatal(err)
	}
	before.Close()
	next := p.daemon()
	if err := next.Adopt(t.Context(), "c", initStreams); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // it was another's, and is ours
		pid := p.pid()
		syscall.Kill(pid, syscall.SIGKILL)
		p.eventually("it is replaced", func() bool { return p.pid() != pid && strings.Count(p.notes(), "open") == 3+i })
	}
	if err := next.End(t.Context(), "c"); err != nil || p.left() != "" {
		t.Errorf("%v, left %s", err, p.left())
	}
}

// What the daemon before has left of containers that do not live is ended; a dead
// keeper's files go too.
func TestSweep(t *testing.T) {
	p := newPlace(t)
	k := p.daemon()
	for _, id := range []string{"c", "d"} {
		if _, err := k.Begin(t.Context(), id, initStreams); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(p.dir, "x.fifos"), 0o700); err != nil {
		t.Fatal(err)
	}
	k.Close()
	next := p.daemon()
	next.Sweep(t.Context(), func(id string) bool { return id == "d" })
	if got := p.left(); strings.Contains(got, "c.") || strings.Contains(got, "x.") || !strings.Contains(got, "d.sock") {
		t.Errorf("left: %s", got)
	}
	if err := next.End(t.Context(), "d"); err != nil || p.left() != "" {
		t.Errorf("%v, left %s", err, p.left())
	}
}

// A keeper that does not answer is killed, whoever has started it.
func TestMute(t *testing.T) {
	for _, who := range []string{"ours", "another's"} {
		t.Run(who, func(t *testing.T) {
			p := newPlace(t)
			k := p.daemon()
			if _, err := k.Begin(t.Context(), "c", initStreams); err != nil {
				t.Fatal(err)
			}
			if who != "ours" {
				k.Close()
				k = p.daemon()
			}
			os.WriteFile(filepath.Join(p.dir, "c.sock.mute"), nil, 0o600)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			pid := p.pid()
			if err := k.End(ctx, "c"); err != nil || p.left() != "" {
				t.Errorf("%v, left %s", err, p.left())
			}
			p.eventually("it has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
			os.Remove(filepath.Join(p.dir, "c.sock.mute"))
		})
	}
}

// A begin that fails leaves nothing.
func TestBeginFails(t *testing.T) {
	p := newPlace(t)
	k := keeper.New(keeper.Config{Dir: p.dir, Binary: "/nope"}, slog.New(slog.DiscardHandler))
	if _, err := k.Begin(t.Context(), "c", initStreams); err == nil || p.left() != "" {
		t.Errorf("%v, left %s", err, p.left())
	}
	os.WriteFile(filepath.Join(p.dir, "c.sock.mute"), nil, 0o600)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := p.daemon().Begin(ctx, "c", initStreams); err == nil || p.left() != "" {
		t.Errorf("%v, left %s", err, p.left())
	}
}

func (p place) eventually(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within ten seconds: %s; %s; %s", what, p.notes(), p.left())
		}
	}
}
